// The methods of dicts, lists, numbers and loops. Python's mutating methods are missing, as in
// Jinja's immutable sandbox.

#include <algorithm>
#include <cmath>

#include "formats/jinja/builtins.h"

namespace pith::jinja {

Value dict_items(Interpreter& in, const Dict& dict, ListKind kind) {
  std::vector<Value> pairs;
  for (const auto& [key, value] : dict.entries) {
    pairs.push_back(make_list(in.meter(), {key, value}, ListKind::kTuple));
  }
  return make_list(in.meter(), std::move(pairs), kind);
}

namespace {

using Args = const ArgumentValues&;

const Dict& dict_of(const Value& v) { return *std::get<DictPtr>(v); }
const List& list_of(const Value& v) { return *std::get<ListPtr>(v); }

Value get(Interpreter& in, const Value& v, Args args) {
  if (args.positional.empty()) in.meter().corrupt("get() without a key");
  if (const Value* found = find_key(in.meter(), dict_of(v), args.positional[0])) return *found;
  return args.has(1, "default") ? args.get(1, "default") : Value(None{});
}

Value values(Interpreter& in, const Value& v, Args) {
  std::vector<Value> result;
  for (const auto& entry : dict_of(v).entries) result.push_back(entry.second);
  return make_list(in.meter(), std::move(result), ListKind::kValues);
}

Value from_keys(Interpreter& in, const Value&, Args args) {
  const Value value = args.has(1, "value") ? args.get(1, "value") : Value(None{});
  std::vector<std::pair<Value, Value>> entries;
  for (Value& key : elements(in.meter(), args.get(0, "iterable"))) {
    entries.emplace_back(std::move(key), value);
  }
  return make_dict(in.meter(), std::move(entries));
}

const FilterTable& dict_methods() {
  static const FilterTable kTable = {
      {"items",
       {[](Interpreter& in, const Value& v, Args) {
          return dict_items(in, dict_of(v), ListKind::kItems);
        },
        ""}},
      {"keys",
       {[](Interpreter& in, const Value& v, Args) {
          return make_list(in.meter(), elements(in.meter(), v), ListKind::kKeys);
        },
        ""}},
      {"values", {values, ""}},
      {"get", {get, "/ key default"}},
      {"copy", {[](Interpreter&, const Value& v, Args) { return v; }, ""}},
      {"fromkeys", {from_keys, "/ iterable value"}},
  };
  return kTable;
}

Value count(Interpreter& in, const Value& v, Args args) {
  int64_t n = 0;
  for (const Value& item : list_of(v).items) {
    n += equal(in.meter(), item, args.get(0, "value")) ? 1 : 0;
  }
  return n;
}

Value index(Interpreter& in, const Value& v, Args args) {
  const auto& items = list_of(v).items;
  const auto n = static_cast<int64_t>(items.size());
  const auto bound = [&](int64_t i) { return std::clamp<int64_t>(i < 0 ? i + n : i, 0, n); };
  const int64_t end = bound(in.integer_or(args.get(2, "stop"), n, "the end"));
  for (int64_t i = bound(in.integer_or(args.get(1, "start"), 0, "the start")); i < end; ++i) {
    if (equal(in.meter(), items[static_cast<size_t>(i)], args.get(0, "value"))) return i;
  }
  in.meter().corrupt("index() of something that is not there");
}

const FilterTable& list_methods() {
  static const FilterTable kTable = {{"count", {count, "/ value"}},
                                     {"index", {index, "/ value start stop"}}};
  return kTable;
}

Value bit_length(Interpreter&, const Value& v, Args) {
  int64_t bits = 0;
  const int64_t n = to_int(v);
  for (uint64_t m = n < 0 ? 0 - static_cast<uint64_t>(n) : static_cast<uint64_t>(n); m > 0; m >>= 1)
    ++bits;
  return bits;
}

const FilterTable& integer_methods() {
  static const FilterTable kTable = {
      {"bit_length", {bit_length, ""}},
      {"conjugate", {[](Interpreter&, const Value& v, Args) { return Value(to_int(v)); }, ""}}};
  return kTable;
}

const FilterTable& float_methods() {
  static const FilterTable kTable = {
      {"is_integer",
       {[](Interpreter&, const Value& v, Args) {
          const double d = std::get<double>(v);
          return Value(std::isfinite(d) && d == std::floor(d));
        },
        ""}},
      {"conjugate", {[](Interpreter&, const Value& v, Args) { return v; }, ""}}};
  return kTable;
}

Value cycle(Interpreter& in, const Value& v, Args args) {
  if (args.positional.empty()) in.meter().corrupt("loop.cycle() of nothing");
  const auto i = static_cast<size_t>(std::get<LoopPtr>(v)->index0);
  return args.positional[i % args.positional.size()];
}

const FilterTable& loop_methods() {
  static const FilterTable kTable = {{"cycle", {cycle, "*"}},
                                     {"changed",
                                      {[](Interpreter& in, const Value& v, Args args) -> Value {
                                         return in.changed(*std::get<LoopPtr>(v), args.positional);
                                       },
                                       "*"}}};
  return kTable;
}

const FilterTable& cycler_methods() {
  static const FilterTable kTable = {{"next",
                                      {[](Interpreter&, const Value& v, Args) {
                                         Cycler& cycler = *std::get<Cycler*>(v);
                                         const Value result = cycler.items[cycler.at];
                                         cycler.at = (cycler.at + 1) % cycler.items.size();
                                         return result;
                                       },
                                       ""}},
                                     {"reset",
                                      {[](Interpreter&, const Value& v, Args) {
                                         std::get<Cycler*>(v)->at = 0;
                                         return Value(None{});
                                       },
                                       ""}}};
  return kTable;
}

const BuiltinFilter* method_of_callable(const Callable& callable, std::string_view name) {
  // `dict` is a function that has a method of its own.
  const bool is_dict =
      callable.kind == Callable::kBuiltin && callable.name == "dict" && is_undefined(callable.self);
  return is_dict && name == "fromkeys" ? find_in(dict_methods(), name) : nullptr;
}

}  // namespace

const BuiltinFilter* find_method(const Value& object, std::string_view name) {
  if (as_text(object) != nullptr) return find_in(text_methods(), name);
  if (is<DictPtr>(object)) return find_in(dict_methods(), name);
  if (is_indexed(object)) {
    static constexpr BuiltinFilter kCopy = {[](Interpreter&, const Value& v, Args) { return v; },
                                            ""};
    if (name == "copy" && list_of(object).kind == ListKind::kList) return &kCopy;
    return find_in(list_methods(), name);
  }
  if (is_integral(object)) return find_in(integer_methods(), name);
  if (is<double>(object)) return find_in(float_methods(), name);
  if (is<LoopPtr>(object)) return find_in(loop_methods(), name);
  if (is<Cycler*>(object) && !std::get<Cycler*>(object)->joiner) {
    return find_in(cycler_methods(), name);
  }
  if (is<CallablePtr>(object)) return method_of_callable(*std::get<CallablePtr>(object), name);
  return nullptr;
}

}  // namespace pith::jinja
