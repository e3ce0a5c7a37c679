// The expressions of the interpreter.

#include <algorithm>

#include "formats/jinja/builtins.h"
#include "formats/jinja/interpreter.h"
#include "formats/jinja/operators.h"
#include "formats/jinja/print.h"

namespace pith::jinja {

const Value* Interpreter::find_variable(std::string_view name) const {
  for (size_t i = scopes_.size(); i-- > std::max<size_t>(macro_base_, 1);) {
    const auto it = scopes_[i].find(name);
    if (it != scopes_[i].end()) return &it->second;
  }
  const auto it = scopes_[0].find(name);
  return it == scopes_[0].end() ? nullptr : &it->second;
}

Value Interpreter::eval(const Expr& e) {
  const int outer_line = enter(e.line);
  Value result = std::visit([this](const auto& node) { return eval_node(node); }, e.node);
  leave(outer_line);
  return result;
}

Value Interpreter::eval_node(const Name& n) {
  if (const Value* found = find_variable(n.name)) return *found;
  if (find_function(n.name) != nullptr) {
    return std::make_shared<const Callable>(Callable{n.name, nullptr, nullptr});
  }
  return Undefined{&n.name};
}

Value Interpreter::eval_node(const ListLiteral& n) {
  std::vector<Value> items;
  for (const auto& e : n.items) items.push_back(eval(*e));
  return make_list(meter_, std::move(items), n.tuple);
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
  return arithmetic(meter_, n.op, left, eval(*n.right));
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
  if (name == "depth") return int64_t{1};  // counts recursive loops, which there are none of
  if (name == "depth0") return int64_t{0};
  if (name == "previtem") return i > 0 ? loop.items->items[static_cast<size_t>(i - 1)] : Value{};
  if (name == "nextitem")
    return i + 1 < n ? loop.items->items[static_cast<size_t>(i + 1)] : Value{};
  if (name == "cycle") return std::make_shared<const Callable>(Callable{name, nullptr, nullptr});
  meter_.unsupported("'loop.{}'", name);
}

// Python's methods come before the members of a dict; its other attributes are undefined.
Value Interpreter::attribute(const Value& object, const std::string& name) {
  const auto method = [&] {
    return std::make_shared<const Callable>(Callable{name, nullptr, nullptr});
  };
  if (const auto* dict = std::get_if<DictPtr>(&object)) {
    if (find_dict_method(name) != nullptr) return method();
    const Value* found =
        find_key(meter_, **dict, std::make_shared<const Text>(name, Origin::kTemplate));
    return found != nullptr ? *found : Value{};
  }
  if (as_text(object) != nullptr)
    return find_text_method(name) != nullptr ? Value(method()) : Value{};
  if (is<LoopPtr>(object)) return loop_attribute(*std::get<LoopPtr>(object), name);
  if (is<Namespace*>(object)) {
    const auto& members = std::get<Namespace*>(object)->members;
    const auto it = members.find(name);
    return it != members.end() ? it->second : Value{};
  }
  if (const auto* undefined = std::get_if<Undefined>(&object)) {
    meter_.corrupt("'{}' of '{}', which is undefined", name,
                   undefined->name != nullptr ? *undefined->name : "a value");
  }
  return Undefined{};
}

Value Interpreter::item(const Value& object, const Value& key) {
  if (const auto* dict = std::get_if<DictPtr>(&object)) {
    const Value* found = find_key(meter_, **dict, key);
    return found != nullptr ? *found : Value{};
  }
  if (is<LoopPtr>(object) || is<Namespace*>(object) || is_undefined(object)) {
    return attribute(object, std::string(to_text(meter_, key)->view()));
  }
  if (!is<int64_t>(key)) return Undefined{};
  const int64_t i = std::get<int64_t>(key);
  if (const auto* list = std::get_if<ListPtr>(&object)) {
    const auto& items = (*list)->items;
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

}  // namespace pith::jinja
