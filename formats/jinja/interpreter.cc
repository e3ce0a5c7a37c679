#include "formats/jinja/interpreter.h"

#include <algorithm>

#include "formats/jinja/builtins.h"
#include "formats/jinja/operators.h"
#include "formats/jinja/print.h"

namespace pith::jinja {

const Value& ArgumentValues::get(size_t place, std::string_view name) const {
  static const Value kMissing;
  if (place < positional.size()) return positional[place];
  for (const auto& [candidate, value] : named) {
    if (candidate == name) return value;
  }
  return kMissing;
}

Text Interpreter::run(const Body& program) {
  Text result;
  out_ = &result;
  exec(program);
  return result;
}

Value Interpreter::make_namespace(Namespace members) {
  namespaces_.push_back(std::make_unique<Namespace>(std::move(members)));
  return namespaces_.back().get();
}

// ---- statements

Interpreter::Flow Interpreter::exec(const Body& body) {
  for (const Stmt& stmt : body) {
    const Flow flow = exec(stmt);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::exec(const Stmt& stmt) {
  const int outer_line = enter(stmt.line);
  const Flow flow = std::visit([this](const auto& node) { return exec_node(node); }, stmt.node);
  leave(outer_line);
  return flow;
}

void Interpreter::emit(const Text& text) {
  meter_.walk(text.size());
  if (out_->size() + text.size() > out_limit_) {
    meter_.corrupt("more than {} bytes of output", out_limit_);
  }
  out_->append(text);
}

Interpreter::Flow Interpreter::exec_node(const Data& n) {
  emit(Text(n.text, Origin::kTemplate));
  return Flow::kNext;
}

Interpreter::Flow Interpreter::exec_node(const Print& n) {
  emit(*to_text(meter_, eval(*n.value)));
  return Flow::kNext;
}

Interpreter::Flow Interpreter::exec_node(const If& n) {
  for (const Branch& branch : n.branches) {
    if (truth(eval(*branch.condition))) return exec(branch.body);
  }
  return exec(n.otherwise);
}

Interpreter::Flow Interpreter::exec_node(const For& n) {
  std::vector<Value> items = elements(meter_, eval(*n.sequence));
  scopes_.emplace_back();
  if (n.filter != nullptr) {
    std::vector<Value> kept;
    for (Value& item : items) {
      bind_targets(n.targets, item);
      if (truth(eval(*n.filter))) kept.push_back(std::move(item));
    }
    items = std::move(kept);
  }
  const auto list = std::get<ListPtr>(make_list(meter_, std::move(items)));
  for (size_t i = 0; i < list->items.size(); ++i) {
    meter_.step();
    scopes_.back().clear();
    bind_targets(n.targets, list->items[i]);
    scopes_.back()["loop"] = std::make_shared<const Loop>(Loop{list, static_cast<int64_t>(i)});
    if (exec(n.body) == Flow::kBreak) break;
  }
  scopes_.pop_back();
  return list->items.empty() ? exec(n.otherwise) : Flow::kNext;
}

void Interpreter::bind_targets(const std::vector<std::string>& names, const Value& value) {
  if (names.size() == 1) {
    scopes_.back()[names[0]] = value;
    return;
  }
  const std::vector<Value> parts = elements(meter_, value);
  if (parts.size() != names.size()) {
    meter_.corrupt("{} values for {} names", parts.size(), names.size());
  }
  for (size_t i = 0; i < names.size(); ++i) scopes_.back()[names[i]] = parts[i];
}

Interpreter::Flow Interpreter::exec_node(const Set& n) {
  const Value value = n.value != nullptr ? eval(*n.value) : make_text(meter_, capture(n.body));
  if (n.object.empty()) {
    bind_targets(n.names, value);
    return Flow::kNext;
  }
  const Value* object = find_variable(n.object);
  if (object == nullptr || !is<Namespace*>(*object)) {
    meter_.corrupt("'set {}.{}' on something that is no namespace", n.object, n.names[0]);
  }
  std::get<Namespace*>(*object)->members[n.names[0]] = value;
  return Flow::kNext;
}

Interpreter::Flow Interpreter::exec_node(const MacroDefinition& n) {
  scopes_.back()[n.macro->name] =
      std::make_shared<const Callable>(Callable{n.macro->name, n.macro.get(), nullptr});
  return Flow::kNext;
}

Interpreter::Flow Interpreter::exec_node(const CallBlock& n) {
  const auto body = std::get<TextPtr>(make_text(meter_, capture(n.body)));
  emit(*to_text(meter_, call(std::get<Call>(n.call->node), body)));
  return Flow::kNext;
}

Interpreter::Flow Interpreter::exec_node(const Scope& n) {
  scopes_.emplace_back();
  exec(n.body);
  scopes_.pop_back();
  return Flow::kNext;
}

Text Interpreter::capture(const Body& body) {
  Text result;
  Text* const outer = std::exchange(out_, &result);
  const uint64_t outer_limit = std::exchange(out_limit_, kMaxText);
  scopes_.emplace_back();
  exec(body);
  scopes_.pop_back();
  out_ = outer;
  out_limit_ = outer_limit;
  return result;
}

// ---- calls

ArgumentValues Interpreter::eval_arguments(const Arguments& args) {
  ArgumentValues result;
  for (const auto& e : args.positional) result.positional.push_back(eval(*e));
  for (const auto& [name, e] : args.named) result.named.emplace_back(name, eval(*e));
  return result;
}

Value Interpreter::call(const Call& n, TextPtr caller) {
  const auto* method = std::get_if<Attribute>(&n.callee->node);
  if (method == nullptr) {
    const Value callee = eval(*n.callee);
    const auto* named = std::get_if<Name>(&n.callee->node);
    return call_value(callee, eval_arguments(n.arguments), std::move(caller),
                      named != nullptr ? named->name : "");
  }
  const Value object = eval(*method->object);
  const Value bound = attribute(object, method->name);
  const ArgumentValues args = eval_arguments(n.arguments);
  if (!is<CallablePtr>(bound) || is<Namespace*>(object)) {
    if (is_undefined(bound)) {
      meter_.unsupported("the method '{}' of a {}", method->name, type_name(object));
    }
    return call_value(bound, args, std::move(caller), method->name);
  }
  const BuiltinFilter* builtin =
      as_text(object) != nullptr ? find_text_method(method->name) : find_dict_method(method->name);
  if (is<LoopPtr>(object)) {
    if (args.positional.empty()) meter_.corrupt("loop.cycle() of nothing");
    const auto i = static_cast<size_t>(std::get<LoopPtr>(object)->index0);
    return args.positional[i % args.positional.size()];
  }
  if (builtin == nullptr) {
    meter_.unsupported("the method '{}' of a {}", method->name, type_name(object));
  }
  check_arguments(method->name, args, builtin->parameters);
  return builtin->apply(*this, object, args);
}

Value Interpreter::call_value(const Value& callee, const ArgumentValues& args, TextPtr caller,
                              const std::string& name) {
  if (is_undefined(callee)) meter_.unsupported("the function '{}'", name);
  if (!is<CallablePtr>(callee)) meter_.corrupt("a {} is called", type_name(callee));
  const Callable& callable = *std::get<CallablePtr>(callee);
  if (callable.caller != nullptr) {
    check_arguments("caller", args, "");
    return callable.caller;
  }
  if (callable.macro != nullptr) return call_macro(*callable.macro, args, std::move(caller));
  const BuiltinFilter* function = find_function(callable.name);
  if (function == nullptr) meter_.unsupported("the method '{}' as a value", callable.name);
  check_arguments(callable.name, args, function->parameters);
  return function->apply(*this, Undefined{}, args);
}

void Interpreter::bind_parameters(const Macro& macro, const ArgumentValues& args) {
  if (args.positional.size() > macro.parameters.size()) {
    meter_.corrupt("the macro '{}' takes {} arguments", macro.name, macro.parameters.size());
  }
  for (const auto& argument : args.named) {
    if (argument.first == "caller" ||
        std::none_of(macro.parameters.begin(), macro.parameters.end(),
                     [&](const auto& parameter) { return parameter.first == argument.first; })) {
      meter_.corrupt("the macro '{}' has no parameter '{}'", macro.name, argument.first);
    }
  }
  for (size_t i = 0; i < macro.parameters.size(); ++i) {
    const auto& [name, missing] = macro.parameters[i];
    Value value = args.get(i, name);
    if (is_undefined(value)) value = missing != nullptr ? eval(*missing) : Undefined{&name};
    scopes_.back()[name] = std::move(value);
  }
}

Value Interpreter::call_macro(const Macro& macro, const ArgumentValues& args, TextPtr caller) {
  if (++macros_ > kMaxNesting) meter_.corrupt("macro calls nested deeper than {}", kMaxNesting);
  const size_t outer_base = std::exchange(macro_base_, scopes_.size());
  scopes_.emplace_back();
  if (caller != nullptr) {
    scopes_.back()["caller"] =
        std::make_shared<const Callable>(Callable{"caller", nullptr, caller});
  }
  bind_parameters(macro, args);
  Text result = capture(macro.body);
  scopes_.pop_back();
  macro_base_ = outer_base;
  --macros_;
  return make_text(meter_, std::move(result));
}

void Interpreter::check_arguments(std::string_view callee, const ArgumentValues& args,
                                  std::string_view names) {
  if (names == "*") return;
  std::vector<std::string_view> known;
  for (size_t at = 0; at < names.size();) {
    const size_t end = std::min(names.find(' ', at), names.size());
    known.push_back(names.substr(at, end - at));
    at = end + 1;
  }
  if (args.positional.size() > known.size()) {
    meter_.corrupt("'{}' takes at most {} arguments", callee, known.size());
  }
  for (const auto& argument : args.named) {
    if (std::find(known.begin(), known.end(), argument.first) == known.end()) {
      meter_.unsupported("the argument '{}' of '{}'", argument.first, callee);
    }
  }
}

int64_t Interpreter::integer_or(const Value& v, int64_t missing, std::string_view what) {
  if (is_undefined(v) || is<None>(v)) return missing;
  if (const auto* n = std::get_if<int64_t>(&v)) return *n;
  if (const auto* b = std::get_if<bool>(&v)) return *b ? 1 : 0;
  meter_.corrupt("{} should be an integer, it is a {}", what, type_name(v));
}

const Text& Interpreter::text_argument(const Value& v, std::string_view what) {
  if (const Text* text = as_text(v)) return *text;
  meter_.corrupt("{} should be a string, it is a {}", what, type_name(v));
}

Value Interpreter::filter(const std::string& name, const Value& input, const ArgumentValues& args) {
  const BuiltinFilter* builtin = find_filter(name);
  if (builtin == nullptr) meter_.unsupported("the filter '{}'", name.substr(0, 40));
  check_arguments(name, args, builtin->parameters);
  return builtin->apply(*this, input, args);
}

bool Interpreter::test(const std::string& name, const Value& input, const ArgumentValues& args) {
  const BuiltinTest* builtin = find_test(name);
  if (builtin == nullptr) meter_.unsupported("the test '{}'", name.substr(0, 40));
  check_arguments(name, args, builtin->parameters);
  return builtin->holds(*this, input, args);
}

}  // namespace pith::jinja
