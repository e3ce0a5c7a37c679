// Runs a syntax tree. Filters, tests, methods and functions are tables in builtins.h; what they
// share is here.
#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "formats/jinja/ast.h"
#include "formats/jinja/meter.h"
#include "formats/jinja/value.h"

namespace pith::jinja {

// The arguments of one call, evaluated.
struct ArgumentValues {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  // The argument at this place or of this name; undefined where it is missing.
  const Value& get(size_t place, std::string_view name) const;
};

class Interpreter {
 public:
  explicit Interpreter(Meter& meter) : meter_(meter), scopes_(1) {}

  // A name for the whole template; `name` must outlive the interpreter.
  void define(std::string_view name, Value value) { scopes_[0][name] = std::move(value); }
  // What strftime_now() returns, where it is not the date of today.
  void fix_date(Value date) { date_ = std::move(date); }
  Text run(const Body& program);

  Meter& meter() { return meter_; }
  const Value& date() const { return date_; }
  Value attribute(const Value& object, const std::string& name);
  Value item(const Value& object, const Value& key);
  Value filter(const std::string& name, const Value& input, const ArgumentValues& args);
  bool test(const std::string& name, const Value& input, const ArgumentValues& args);
  Value make_namespace(Namespace members);

  // Arguments for the builtins, with defaults; kCorrupt where they have another type.
  int64_t integer_or(const Value& v, int64_t missing, std::string_view what);
  bool flag_or(const Value& v, bool missing) { return is_undefined(v) ? missing : truth(v); }
  const Text& text_argument(const Value& v, std::string_view what);
  // Only so many arguments, and only these names.
  void check_arguments(std::string_view callee, const ArgumentValues& args, std::string_view names);

 private:
  enum class Flow { kNext, kBreak, kContinue };
  using Variables = std::unordered_map<std::string_view, Value>;

  // Around each evaluation: limits the recursion, and gives errors their line. After an error
  // nothing goes on, so that leave() need not run.
  int enter(int line) {
    meter_.step();
    if (++frames_ > kMaxFrames) meter_.corrupt("recursion deeper than {}", kMaxFrames);
    return std::exchange(meter_.line, line);
  }
  void leave(int outer_line) {
    --frames_;
    meter_.line = outer_line;
  }

  const Value* find_variable(std::string_view name) const;
  Value eval(const Expr& e);
  Value eval_optional(const ExprPtr& e) { return e == nullptr ? Value{} : eval(*e); }
  Value eval_node(const Literal& n) { return n.value; }
  Value eval_node(const Name& n);
  Value eval_node(const ListLiteral& n);
  Value eval_node(const DictLiteral& n);
  Value eval_node(const Unary& n);
  Value eval_node(const Binary& n);
  Value eval_node(const Compare& n);
  Value eval_node(const Conditional& n);
  Value eval_node(const Attribute& n);
  Value eval_node(const Index& n) { return item(eval(*n.object), eval(*n.key)); }
  Value eval_node(const Slice& n);
  Value eval_node(const Call& n) { return call(n, nullptr); }
  Value eval_node(const Filter& n);
  Value eval_node(const Test& n);
  ArgumentValues eval_arguments(const Arguments& args);
  Value loop_attribute(const Loop& loop, const std::string& name);
  Value call(const Call& n, TextPtr caller);
  Value call_value(const Value& callee, const ArgumentValues& args, TextPtr caller,
                   const std::string& name);
  Value call_macro(const Macro& macro, const ArgumentValues& args, TextPtr caller);
  void bind_parameters(const Macro& macro, const ArgumentValues& args);

  Flow exec(const Body& body);
  Flow exec(const Stmt& stmt);
  Flow exec_node(const Data& n);
  Flow exec_node(const Print& n);
  Flow exec_node(const If& n);
  Flow exec_node(const For& n);
  Flow exec_node(const Set& n);
  Flow exec_node(const MacroDefinition& n);
  Flow exec_node(const CallBlock& n);
  Flow exec_node(const Scope& n);
  Flow exec_node(const Break&) { return Flow::kBreak; }
  Flow exec_node(const Continue&) { return Flow::kContinue; }
  void bind_targets(const std::vector<std::string>& names, const Value& value);
  Text capture(const Body& body);
  void emit(const Text& text);

  Meter& meter_;
  std::vector<Variables> scopes_;  // the first is the template's, the last the innermost
  size_t macro_base_ = 0;          // the first scope of the macro under way, or 0
  int frames_ = 0;
  int macros_ = 0;
  Text* out_ = nullptr;
  uint64_t out_limit_ = kMaxOutput;
  std::vector<std::unique_ptr<Namespace>> namespaces_;
  Value date_;
};

}  // namespace pith::jinja
