// The expressions of the interpreter.

#include <algorithm>

#include "formats/jinja/builtins.h"
#include "formats/jinja/format.h"
#include "formats/jinja/interpreter.h"
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

bool ArgumentValues::has(size_t place, std::string_view name) const {
  return place < positional.size() ||
         std::any_of(named.begin(), named.end(), [&](const auto& n) { return n.first == name; });
}

const Value* Interpreter::find_variable(std::string_view name) const {
  for (size_t i = scopes_.size() - 1;; i = scopes_[i].around) {
    const auto it = scopes_[i].variables.find(name);
    if (it != scopes_[i].variables.end()) return &it->second;
    if (i == 0) return nullptr;
  }
}

Value Interpreter::eval(const Expr& e) {
  const int outer_line = enter(e.line);
  Value result = std::visit([this](const auto& node) { return eval_node(node); }, e.node);
  leave(outer_line);
  return result;
}

Value Interpreter::eval_node(const Name& n) {
  if (const Value* found = find_variable(n.name)) return *found;
  if (const BuiltinFilter* function = find_function(n.name)) {
    return make_method(meter_, Undefined{}, n.name, function);
  }
  if (n.name == "self") {
    Callable self;
    self.kind = Callable::kSelf;
    self.name = n.name;
    return std::make_shared<const Callable>(std::move(self));
  }
  return Undefined{&n.name};
}

Value Interpreter::eval_node(const ListLiteral& n) {
  std::vector<Value> items;
  for (const auto& e : n.items) items.push_back(eval(*e));
  return make_list(meter_, std::move(items), n.tuple ? ListKind::kTuple : ListKind::kList);
}

Value Interpreter::eval_node(const DictLiteral& n) {
  std::vector<std::pair<Value, Value>> entries;
  for (const auto& [key, value] : n.entries) {
    Value k = eval(*key);
    entries.emplace_back(std::move(k), eval(*value));
  }
  return make_dict(meter_, std::move(entries));
}

Value Interpreter::eval_node(const Unary& n) {
  const Value v = eval(*n.operand);
  if (n.op == "not") return !truth(v);
  if (n.op == "-") return negate(meter_, v);
  if (!is_number(v)) meter_.corrupt("a sign before a {}", type_name(v));
  return is<bool>(v) ? Value(static_cast<int64_t>(std::get<bool>(v))) : v;
}

Value Interpreter::eval_node(const Binary& n) {
  Value left = eval(*n.left);
  if (n.op == "and") return truth(left) ? eval(*n.right) : left;
  if (n.op == "or") return truth(left) ? left : eval(*n.right);
  Value right = eval(*n.right);
  if (n.op == "%" && as_text(left) != nullptr) return format_percent(*this, *as_text(left), right);
  const Text *a = as_text(left), *b = as_text(right);
  const bool any_markup = (a != nullptr && a->markup()) || (b != nullptr && b->markup());
  if (n.op == "~" && autoescape_ && any_markup) {
    return concatenate(meter_, *to_text_like(*this, left, true), *to_text_like(*this, right, true));
  }
  if (n.op == "+" && a != nullptr && b != nullptr && a->markup() != b->markup()) {
    return concatenate(meter_, *to_text_like(*this, left, true), *to_text_like(*this, right, true));
  }
  return arithmetic(meter_, n.op, left, right);
}

Value Interpreter::eval_node(const Compare& n) {
  Value left = eval(*n.first);
  for (const auto& [op, e] : n.rest) {
    Value right = eval(*e);
    bool holds = false;
    if (op == "==") {
      holds = equal(meter_, left, right);
    } else if (op == "!=") {
      holds = !equal(meter_, left, right);
    } else if (op == "in" || op == "not in") {
      holds = contains(meter_, right, left) == (op == "in");
    } else {
      const auto order = compare(meter_, left, right);
      holds = op == "<" ? order < 0 : op == "<=" ? order <= 0 : op == ">" ? order > 0 : order >= 0;
    }
    if (!holds) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::eval_node(const Conditional& n) {
  return truth(eval(*n.condition)) ? eval(*n.then) : eval_optional(n.otherwise);
}

Value Interpreter::eval_node(const Attribute& n) {
  Value result = attribute(eval(*n.object), n.name);
  if (is_undefined(result)) return Undefined{&n.name};
  return result;
}

Value Interpreter::eval_node(const Index& n) {
  const Value object = eval(*n.object);
  return item(object, eval(*n.key));
}

Value Interpreter::eval_node(const Slice& n) {
  const Value object = eval(*n.object);
  const Value from = eval_optional(n.from), to = eval_optional(n.to);
  return slice(meter_, object, from, to, eval_optional(n.step));
}

Value Interpreter::eval_node(const Filter& n) {
  const Value input = eval(*n.input);
  return filter(n.name, input, eval_arguments(n.arguments));
}

Value Interpreter::eval_node(const Test& n) {
  const Value input = eval(*n.input);
  return test(n.name, input, eval_arguments(n.arguments)) != n.negated;
}

// ---- members

Value Interpreter::loop_attribute(const Loop& loop, const std::string& name) {
  const auto n = static_cast<int64_t>(loop.items->items.size());
  const int64_t i = loop.index0;
  if (name == "index") return i + 1;
  if (name == "index0") return i;
  if (name == "revindex") return n - i;
  if (name == "revindex0") return n - i - 1;
  if (name == "first") return i == 0;
  if (name == "last") return i == n - 1;
  if (name == "length") return n;
  if (name == "depth") return loop.depth0 + 1;
  if (name == "depth0") return loop.depth0;
  if (name == "previtem") return i > 0 ? loop.items->items[static_cast<size_t>(i - 1)] : Value{};
  if (name == "nextitem")
    return i + 1 < n ? loop.items->items[static_cast<size_t>(i + 1)] : Value{};
  return Undefined{};
}

Value Interpreter::callable_attribute(const Callable& callable, const std::string& name) {
  if (callable.kind == Callable::kSelf) {
    const auto found = blocks_.find(name);
    if (found == blocks_.end()) return Undefined{};
    Callable block;
    block.kind = Callable::kBlock;
    block.name = name;
    block.block = found->second;
    return std::make_shared<const Callable>(std::move(block));
  }
  if (callable.kind != Callable::kMacro) return Undefined{};
  const Macro& macro = *callable.macro;
  if (name == "name") {  // that of a call block has none
    return macro.name.empty() ? Value(None{}) : Value(make_text(meter_, macro.name));
  }
  if (name == "caller") return macro.uses_caller;
  if (name == "catch_varargs") return macro.uses_varargs;
  if (name == "catch_kwargs") return macro.uses_kwargs;
  if (name != "arguments") return Undefined{};
  std::vector<Value> names;
  for (const auto& parameter : macro.parameters) {
    names.push_back(make_text(meter_, parameter.first));
  }
  return make_list(meter_, std::move(names), ListKind::kTuple);
}

Value Interpreter::list_attribute(const Value& object, const std::string& name) {
  const List& list = *std::get<ListPtr>(object);
  if (list.kind == ListKind::kGroup) {
    if (name == "grouper") return list.items[0];
    if (name == "list") return list.items[1];
  }
  if (list.kind == ListKind::kRange) {
    if (name == "start") return list.bounds[0];
    if (name == "stop") return list.bounds[1];
    if (name == "step") return list.bounds[2];
  }
  return Undefined{};
}

// Python's methods come before the members of a dict; mutating methods and Python's internals are
// undefined.
Value Interpreter::attribute(const Value& object, const std::string& name) {
  if (const auto* undefined = std::get_if<Undefined>(&object)) {
    meter_.corrupt("'{}' of '{}', which is undefined", name,
                   undefined->name != nullptr ? *undefined->name : "a value");
  }
  if (const BuiltinFilter* method = find_method(object, name)) {
    return make_method(meter_, object, name, method);
  }
  if (name.starts_with("__") && name.ends_with("__")) return Undefined{};
  if (const auto* dict = std::get_if<DictPtr>(&object)) {
    static constexpr std::string_view kChanging[] = {"clear", "pop", "popitem", "setdefault",
                                                     "update"};
    if (std::find(std::begin(kChanging), std::end(kChanging), name) != std::end(kChanging)) {
      return Undefined{};
    }
    const Value* found =
        find_key(meter_, **dict, std::make_shared<const Text>(name, Origin::kTemplate));
    return found != nullptr ? *found : Value{};
  }
  if (is<ListPtr>(object)) return list_attribute(object, name);
  if (is<LoopPtr>(object)) return loop_attribute(*std::get<LoopPtr>(object), name);
  if (is<CallablePtr>(object)) return callable_attribute(*std::get<CallablePtr>(object), name);
  if (is<Cycler*>(object)) {
    const Cycler& cycler = *std::get<Cycler*>(object);
    if (name == "current" && !cycler.joiner) return cycler.items[cycler.at];
  }
  if (is<Namespace*>(object)) {
    const auto& members = std::get<Namespace*>(object)->members;
    const auto it = members.find(name);
    return it != members.end() ? it->second : Value{};
  }
  if (is_number(object)) {
    if (name == "imag") return is<double>(object) ? Value(0.0) : Value(int64_t{0});
    if (name == "denominator" && is_integral(object)) return int64_t{1};
    if (name == "real" && is<double>(object)) return object;
    if ((name == "real" || name == "numerator") && is_integral(object)) return to_int(object);
  }
  return Undefined{};
}

Value Interpreter::item(const Value& object, const Value& key) {
  if (const auto* dict = std::get_if<DictPtr>(&object)) {
    if (const Value* found = find_key(meter_, **dict, key)) return *found;
    const Text* name = as_text(key);
    const BuiltinFilter* method = name != nullptr ? find_method(object, name->view()) : nullptr;
    return method != nullptr ? make_method(meter_, object, std::string(name->view()), method)
                             : Value{};
  }
  if (is_undefined(object)) return attribute(object, std::string(to_text(meter_, key)->view()));
  if (const Text* name = as_text(key)) return attribute(object, std::string(name->view()));
  if (!is_integral(key)) return Undefined{};
  const int64_t i = to_int(key);
  if (is_indexed(object)) {
    const auto& items = std::get<ListPtr>(object)->items;
    const auto n = static_cast<int64_t>(items.size());
    return i < -n || i >= n ? Value{} : items[static_cast<size_t>(i < 0 ? i + n : i)];
  }
  if (const Text* text = as_text(object)) {
    meter_.step(1 + text->size() / 16);
    const auto starts = char_starts(text->view());
    const auto n = static_cast<int64_t>(starts.size()) - 1;
    if (i < -n || i >= n) return Undefined{};
    const auto at = static_cast<size_t>(i < 0 ? i + n : i);
    return make_text(meter_, text->slice(starts[at], starts[at + 1]));
  }
  return Undefined{};
}

// ---- calls

ArgumentValues Interpreter::eval_arguments(const Arguments& args) {
  ArgumentValues result;
  for (const auto& e : args.positional) result.positional.push_back(eval(*e));
  for (const auto& [name, e] : args.named) result.named.emplace_back(name, eval(*e));
  if (args.more_positional != nullptr) {
    for (Value& v : elements(meter_, eval(*args.more_positional))) {
      result.positional.push_back(std::move(v));
    }
  }
  if (args.more_named != nullptr) {
    const Value more = eval(*args.more_named);
    const auto* dict = std::get_if<DictPtr>(&more);
    if (dict == nullptr) meter_.corrupt("'**' before a {}", type_name(more));
    // Looked up one by one.
    if ((*dict)->entries.size() > 256) meter_.corrupt("'**' before a dict of more than 256");
    for (const auto& [key, value] : (*dict)->entries) {
      std::string name(text_argument(key, "the name of an argument").view());
      meter_.walk(name.size());
      if (result.has(result.positional.size(), name)) {
        meter_.corrupt("the argument '{}' twice", name);
      }
      result.named.emplace_back(std::move(name), value);
    }
  }
  return result;
}

Value Interpreter::call(const Call& n, const Value& caller) {
  std::string name;
  Value callee;
  if (const auto* method = std::get_if<Attribute>(&n.callee->node)) {
    const Value object = eval(*method->object);
    callee = attribute(object, method->name);
    if (is_undefined(callee)) {
      meter_.unsupported("the method '{}' of a {}", method->name, type_name(object));
    }
  } else {
    if (const auto* named = std::get_if<Name>(&n.callee->node)) name = named->name;
    callee = eval(*n.callee);
  }
  ArgumentValues args = eval_arguments(n.arguments);
  if (!is_undefined(caller)) args.named.emplace_back("caller", caller);
  return call_value(callee, args, name);
}

Value Interpreter::call_value(const Value& callee, const ArgumentValues& args,
                              const std::string& name) {
  if (is_undefined(callee)) meter_.unsupported("the function '{}'", name);
  if (is<LoopPtr>(callee)) return call_loop(*std::get<LoopPtr>(callee), args);
  if (is<Cycler*>(callee) && std::get<Cycler*>(callee)->joiner) {
    check_arguments("joiner", args, "");
    Cycler& joiner = *std::get<Cycler*>(callee);
    return joiner.at++ == 0 ? make_text(meter_, "") : joiner.items[0];
  }
  if (!is<CallablePtr>(callee)) meter_.corrupt("a {} is called", type_name(callee));
  const Callable& callable = *std::get<CallablePtr>(callee);
  switch (callable.kind) {
    case Callable::kMacro:
      return call_macro(callable, args);
    case Callable::kBlock:
      check_arguments(callable.name, args, "");
      return call_block(*callable.block);
    case Callable::kSelf:
      meter_.corrupt("'self' is called");
    case Callable::kBuiltin:
      break;
  }
  check_arguments(callable.name, args, callable.builtin->parameters);
  return callable.builtin->apply(*this, callable.self, args);
}

void Interpreter::check_arguments(std::string_view callee, const ArgumentValues& args,
                                  std::string_view names) {
  if (names == "*") return;
  const bool by_place_only = names.starts_with("/ ");
  if (by_place_only) names.remove_prefix(2);
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
    const auto at = std::find(known.begin(), known.end(), argument.first);
    if (by_place_only || at == known.end()) {
      meter_.unsupported("the argument '{}' of '{}'", argument.first, callee);
    }
    if (static_cast<size_t>(at - known.begin()) < args.positional.size()) {
      meter_.corrupt("the argument '{}' of '{}' twice", argument.first, callee);
    }
  }
}

int64_t Interpreter::integer_or(const Value& v, int64_t missing, std::string_view what) {
  if (is_undefined(v) || is<None>(v)) return missing;
  if (is_integral(v)) return to_int(v);
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
