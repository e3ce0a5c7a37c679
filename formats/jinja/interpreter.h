// Runs a syntax tree. Filters, tests, methods and functions are tables in builtins.h; what they
// share is here.
#pragma once

#include <deque>
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
  bool has(size_t place, std::string_view name) const;
};

class Interpreter {
 public:
  explicit Interpreter(Meter& meter) : meter_(meter), scopes_(1) {}

  // A name for the whole template; `name` must outlive the interpreter.
  void define(std::string_view name, Value value) { scopes_[0].variables[name] = std::move(value); }
  // What strftime_now() returns, where it is not the date of today.
  void fix_date(Value date) { date_ = std::move(date); }
  Text run(const Program& program);

  Meter& meter() { return meter_; }
  const Value& date() const { return date_; }
  bool autoescape() const { return autoescape_; }
  // object.name and object[key], each of which falls back on the other, as Jinja's.
  Value attribute(const Value& object, const std::string& name);
  Value item(const Value& object, const Value& key);
  Value filter(const std::string& name, const Value& input, const ArgumentValues& args);
  bool test(const std::string& name, const Value& input, const ArgumentValues& args);
  Value make_namespace(Namespace members);
  Value make_cycler(Cycler cycler);
  // Whether the loop is given other values than the last time; loop.changed().
  bool changed(const Loop& loop, std::vector<Value> values);

  // Arguments for the builtins, with defaults; kCorrupt where they have another type.
  int64_t integer_or(const Value& v, int64_t missing, std::string_view what);
  bool flag_or(const Value& v, bool missing) { return is_undefined(v) ? missing : truth(v); }
  const Text& text_argument(const Value& v, std::string_view what);
  // Only so many arguments, and only these names; see BuiltinFilter.
  void check_arguments(std::string_view callee, const ArgumentValues& args, std::string_view names);

 private:
  enum class Flow { kNext, kBreak, kContinue };
  struct Frame {
    std::unordered_map<std::string_view, Value> variables;
    size_t around = 0;    // the scope that is looked into next; 0 is the template's
    uint64_t serial = 0;  // no two scopes have the same
  };

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
  Value eval_node(const Index& n);
  Value eval_node(const Slice& n);
  Value eval_node(const Call& n) { return call(n, Undefined{}); }
  Value eval_node(const Filter& n);
  Value eval_node(const Test& n);
  Value eval_node(const BlockText&) { return block_texts_.back(); }
  ArgumentValues eval_arguments(const Arguments& args);
  CallablePtr closure(const Macro& macro) const;  // with the innermost scope
  Value loop_attribute(const Loop& loop, const std::string& name);
  Value callable_attribute(const Callable& callable, const std::string& name);
  Value list_attribute(const Value& object, const std::string& name);
  Value call(const Call& n, const Value& caller);
  Value call_value(const Value& callee, const ArgumentValues& args, const std::string& name);
  Value call_macro(const Callable& callable, const ArgumentValues& args);
  Value call_block(const Block& block);
  Value call_loop(const Loop& loop, const ArgumentValues& args);
  void bind_parameters(const Macro& macro, const ArgumentValues& args);
  void bind_rest(const Macro& macro, const ArgumentValues& args);

  void push_scope(size_t around) { scopes_.push_back({{}, around, ++last_serial_}); }
  void push_scope() { push_scope(scopes_.size() - 1); }
  void pop_scope() { scopes_.pop_back(); }
  ScopeRef here() const { return {scopes_.size() - 1, scopes_.back().serial}; }
  bool is_alive(ScopeRef scope) const {
    return scope.place < scopes_.size() && scopes_[scope.place].serial == scope.serial;
  }

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
  Flow exec_node(const With& n);
  Flow exec_node(const FilterBlock& n);
  Flow exec_node(const Autoescape& n);
  Flow exec_node(const BlockDefinition& n);
  Flow exec_node(const Refused& n);
  Flow exec_node(const Break&) { return Flow::kBreak; }
  Flow exec_node(const Continue&) { return Flow::kContinue; }
  Flow run_loop(const For& n, const Value& sequence, ScopeRef around, int64_t depth0);
  std::vector<Value> loop_items(const For& n, const Value& sequence);
  void bind(const Target& target, const Value& value);
  void emit(const Text& text);
  void emit_value(const Value& value);
  // The text that `print` emits; in a scope of its own where it is a body.
  template <class Print>
  Text captured(Print print);
  Text capture(const Body& body);
  // The text of a block as a value, through its filters where there are any.
  Value block_value(const Body& body, const ExprPtr& filters);

  Meter& meter_;
  std::deque<Frame> scopes_;  // the first is the template's, the last the innermost; references
                              // to one hold while others come and go
  uint64_t last_serial_ = 0;
  int frames_ = 0;
  int calls_ = 0;  // of macros, blocks and recursive loops
  bool autoescape_ = false;
  Text* out_ = nullptr;
  uint64_t out_limit_ = kMaxOutput;
  std::vector<Value> block_texts_;
  std::unordered_map<std::string_view, const Block*> blocks_;
  std::vector<std::unique_ptr<Namespace>> namespaces_;
  std::vector<std::unique_ptr<Cycler>> cyclers_;
  uint64_t last_loop_ = 0;
  std::unordered_map<uint64_t, std::vector<Value>> changed_;
  Value date_;
};

}  // namespace pith::jinja
