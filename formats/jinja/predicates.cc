// The tests: what may follow `is`.

#include <algorithm>
#include <unordered_map>

#include "formats/jinja/builtins.h"
#include "formats/jinja/operators.h"
#include "formats/jinja/print.h"

namespace pith::jinja {
namespace {

using Args = const ArgumentValues&;

template <class Holds>
bool compares(Interpreter& in, const Value& v, Args a, Holds holds) {
  return holds(compare(in.meter(), v, a.get(0, "other")));
}

bool is_text_case(Interpreter& in, const Value& v, bool (*holds)(std::string_view)) {
  const TextPtr text = to_text(in.meter(), v);
  in.meter().step(1 + text->size() / 16);
  return holds(text->view());
}

// A name that could be a dict's key is no filter; other values are an error as keys are.
std::string_view name_of(Interpreter& in, const Value& v) {
  if (!is_hashable(v)) {
    in.meter().corrupt("a {} as a name", type_name(v));
  }
  return as_text(v) != nullptr ? as_text(v)->view() : std::string_view();
}

bool is_multiple(Interpreter& in, const Value& v, const Value& of, int64_t remainder) {
  if (!is_number(v) || !is_number(of)) in.meter().corrupt("the remainder of a {}", type_name(v));
  return equal(in.meter(), arithmetic(in.meter(), "%", v, of), remainder);
}

bool is_equal(Interpreter& in, const Value& v, Args a) {
  return equal(in.meter(), v, a.get(0, "other"));
}
bool is_unequal(Interpreter& in, const Value& v, Args a) { return !is_equal(in, v, a); }
bool is_same(Interpreter& in, const Value& v, Args a) {
  const Value& other = a.get(0, "other");
  if (v.index() != other.index()) return false;
  if (is<ListPtr>(v)) return std::get<ListPtr>(v) == std::get<ListPtr>(other);
  if (is<DictPtr>(v)) return std::get<DictPtr>(v) == std::get<DictPtr>(other);
  return is_equal(in, v, a);
}
bool is_less(Interpreter& in, const Value& v, Args a) {
  return compares(in, v, a, [](auto order) { return order < 0; });
}
bool is_at_most(Interpreter& in, const Value& v, Args a) {
  return compares(in, v, a, [](auto order) { return order <= 0; });
}
bool is_greater(Interpreter& in, const Value& v, Args a) {
  return compares(in, v, a, [](auto order) { return order > 0; });
}
bool is_at_least(Interpreter& in, const Value& v, Args a) {
  return compares(in, v, a, [](auto order) { return order >= 0; });
}

bool is_iterable(Interpreter&, const Value& v, Args) {
  return as_text(v) != nullptr || is<ListPtr>(v) || is<DictPtr>(v) || is<LoopPtr>(v) ||
         is_undefined(v);
}
bool is_sequence(Interpreter&, const Value& v, Args) {
  return as_text(v) != nullptr || is_indexed(v) || is<DictPtr>(v) || is_undefined(v);
}
bool is_callable(const Value& v) {
  return is<CallablePtr>(v) || is<LoopPtr>(v) || is_undefined(v) ||
         (is<Cycler*>(v) && std::get<Cycler*>(v)->joiner);
}

}  // namespace

const BuiltinTest* find_test(std::string_view name) {
  static const std::unordered_map<std::string_view, BuiltinTest> kTable = {
      {"defined", {[](Interpreter&, const Value& v, Args) { return !is_undefined(v); }, ""}},
      {"undefined", {[](Interpreter&, const Value& v, Args) { return is_undefined(v); }, ""}},
      {"none", {[](Interpreter&, const Value& v, Args) { return is<None>(v); }, ""}},
      {"string", {[](Interpreter&, const Value& v, Args) { return as_text(v) != nullptr; }, ""}},
      {"mapping", {[](Interpreter&, const Value& v, Args) { return is<DictPtr>(v); }, ""}},
      {"iterable", {is_iterable, ""}},
      {"sequence", {is_sequence, ""}},
      {"number", {[](Interpreter&, const Value& v, Args) { return is_number(v); }, ""}},
      {"integer", {[](Interpreter&, const Value& v, Args) { return is<int64_t>(v); }, ""}},
      {"float", {[](Interpreter&, const Value& v, Args) { return is<double>(v); }, ""}},
      {"boolean", {[](Interpreter&, const Value& v, Args) { return is<bool>(v); }, ""}},
      {"true",
       {[](Interpreter&, const Value& v, Args) { return is<bool>(v) && std::get<bool>(v); }, ""}},
      {"false",
       {[](Interpreter&, const Value& v, Args) { return is<bool>(v) && !std::get<bool>(v); }, ""}},
      {"callable", {[](Interpreter&, const Value& v, Args) { return is_callable(v); }, ""}},
      {"lower",
       {[](Interpreter& in, const Value& v, Args) { return is_text_case(in, v, is_lower); }, ""}},
      {"upper",
       {[](Interpreter& in, const Value& v, Args) { return is_text_case(in, v, is_upper); }, ""}},
      {"escaped",
       {[](Interpreter&, const Value& v, Args) {
          return as_text(v) != nullptr && as_text(v)->markup();
        },
        ""}},
      {"filter",
       {[](Interpreter& in, const Value& v, Args) {
          return find_filter(name_of(in, v)) != nullptr;
        },
        ""}},
      {"test",
       {[](Interpreter& in, const Value& v, Args) { return find_test(name_of(in, v)) != nullptr; },
        ""}},
      {"odd",
       {[](Interpreter& in, const Value& v, Args) { return is_multiple(in, v, int64_t{2}, 1); },
        ""}},
      {"even",
       {[](Interpreter& in, const Value& v, Args) { return is_multiple(in, v, int64_t{2}, 0); },
        ""}},
      {"divisibleby",
       {[](Interpreter& in, const Value& v, Args a) {
          return is_multiple(in, v, a.get(0, "num"), 0);
        },
        "num"}},
      {"in",
       {[](Interpreter& in, const Value& v, Args a) {
          return contains(in.meter(), a.get(0, "seq"), v);
        },
        "seq"}},
      {"equalto", {is_equal, "other"}},
      {"eq", {is_equal, "other"}},
      {"==", {is_equal, "other"}},
      {"sameas", {is_same, "other"}},
      {"ne", {is_unequal, "other"}},
      {"!=", {is_unequal, "other"}},
      {"lt", {is_less, "other"}},
      {"<", {is_less, "other"}},
      {"lessthan", {is_less, "other"}},
      {"le", {is_at_most, "other"}},
      {"<=", {is_at_most, "other"}},
      {"gt", {is_greater, "other"}},
      {">", {is_greater, "other"}},
      {"greaterthan", {is_greater, "other"}},
      {"ge", {is_at_least, "other"}},
      {">=", {is_at_least, "other"}},
  };
  const auto it = kTable.find(name);
  return it == kTable.end() ? nullptr : &it->second;
}

}  // namespace pith::jinja
