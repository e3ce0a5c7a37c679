#include "formats/jinja/value.h"

#include <algorithm>
#include <cmath>
#include <compare>
#include <limits>

#include "core/utf8.h"

namespace pith::jinja {
namespace {

int depth_of(const Value& v) {
  if (const auto* list = std::get_if<ListPtr>(&v)) return (*list)->depth;
  if (const auto* dict = std::get_if<DictPtr>(&v)) return (*dict)->depth;
  if (const auto* loop = std::get_if<LoopPtr>(&v)) return (*loop)->items->depth;
  if (const auto* callable = std::get_if<CallablePtr>(&v)) return (*callable)->depth;
  return 0;
}

int depth_above(Meter& meter, int deepest) {
  if (deepest >= kMaxNesting) meter.corrupt("data nested deeper than {}", kMaxNesting);
  return deepest + 1;
}

bool equal_lists(Meter& meter, const List& a, const List& b) {
  const auto kind = [](const List& l) {
    return l.kind == ListKind::kGroup ? ListKind::kTuple : l.kind;
  };
  if (kind(a) != kind(b) || a.items.size() != b.items.size()) return false;
  if (kind(a) == ListKind::kGenerator || kind(a) == ListKind::kValues) return &a == &b;
  for (size_t i = 0; i < a.items.size(); ++i) {
    if (!equal(meter, a.items[i], b.items[i])) return false;
  }
  return true;
}

bool equal_dicts(Meter& meter, const Dict& a, const Dict& b) {
  if (a.entries.size() != b.entries.size()) return false;
  for (const auto& [key, value] : a.entries) {
    const Value* other = find_key(meter, b, key);
    if (other == nullptr || !equal(meter, value, *other)) return false;
  }
  return true;
}

Value json_at_depth(Meter& meter, const Json& json, Origin strings, int depth) {
  meter.step();
  if (depth > kMaxNesting) meter.corrupt("data nested deeper than {}", kMaxNesting);
  const auto text = [&](const std::string& s) -> Value {
    meter.walk(s.size());
    return std::make_shared<const Text>(valid_utf8_or_replaced(s), strings);
  };
  switch (json.type()) {
    case Json::value_t::null:
      return None{};
    case Json::value_t::boolean:
      return json.get<bool>();
    case Json::value_t::number_integer:
      return json.get<int64_t>();
    case Json::value_t::number_unsigned: {
      const auto n = json.get<uint64_t>();
      if (n > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
        return static_cast<double>(n);
      return static_cast<int64_t>(n);
    }
    case Json::value_t::number_float:
      return json.get<double>();
    case Json::value_t::string:
      return text(json.get_ref<const std::string&>());
    case Json::value_t::array: {
      auto list = std::make_shared<List>();
      for (const Json& item : json) {
        list->items.push_back(json_at_depth(meter, item, strings, depth + 1));
        list->depth = std::max(list->depth, 1 + depth_of(list->items.back()));
      }
      return ListPtr(std::move(list));
    }
    case Json::value_t::object: {
      auto dict = std::make_shared<Dict>();
      for (const auto& [key, item] : json.items()) {
        dict->entries.emplace_back(text(key), json_at_depth(meter, item, strings, depth + 1));
        dict->depth = std::max(dict->depth, 1 + depth_of(dict->entries.back().second));
      }
      return DictPtr(std::move(dict));
    }
    default:
      meter.unsupported("a JSON value of the type {}", json.type_name());
  }
}

}  // namespace

const Text* as_text(const Value& v) {
  const auto* text = std::get_if<TextPtr>(&v);
  return text == nullptr ? nullptr : text->get();
}

bool is_integral(const Value& v) { return is<bool>(v) || is<int64_t>(v); }
int64_t to_int(const Value& v) {
  return is<bool>(v) ? static_cast<int64_t>(std::get<bool>(v)) : std::get<int64_t>(v);
}
bool is_tuple(const Value& v) {
  if (!is<ListPtr>(v)) return false;
  const ListKind kind = std::get<ListPtr>(v)->kind;
  return kind == ListKind::kTuple || kind == ListKind::kGroup;
}
bool is_hashable(const Value& v) {
  if (is<DictPtr>(v)) return false;
  if (!is<ListPtr>(v)) return true;
  const List& list = *std::get<ListPtr>(v);
  if (!is_tuple(v)) return list.kind == ListKind::kRange || list.kind == ListKind::kGenerator;
  return std::all_of(list.items.begin(), list.items.end(), is_hashable);
}
bool is_indexed(const Value& v) {
  return is_tuple(v) || (is<ListPtr>(v) && (std::get<ListPtr>(v)->kind == ListKind::kList ||
                                            std::get<ListPtr>(v)->kind == ListKind::kRange));
}

bool is_number(const Value& v) { return is_integral(v) || is<double>(v); }

double to_double(const Value& v) {
  return is<double>(v) ? std::get<double>(v) : static_cast<double>(to_int(v));
}

Value make_text(Meter& meter, Text text) {
  meter.make(text.size());
  return std::make_shared<const Text>(std::move(text));
}

Value make_text(Meter& meter, std::string_view bytes, Origin origin) {
  meter.make(bytes.size());
  return std::make_shared<const Text>(bytes, origin);
}

Value make_list(Meter& meter, std::vector<Value> items, ListKind kind) {
  meter.step(1 + items.size());
  int deepest = 0;
  for (const Value& item : items) deepest = std::max(deepest, depth_of(item));
  auto list = std::make_shared<List>();
  list->items = std::move(items);
  list->depth = depth_above(meter, deepest);
  list->kind = kind;
  if (kind == ListKind::kGenerator) list->taken = std::make_shared<size_t>(0);
  return ListPtr(std::move(list));
}

Value make_range(Meter& meter, int64_t start, int64_t stop, int64_t step) {
  if (step == 0) meter.corrupt("range() with a step of zero");
  auto list = std::make_shared<List>();
  list->kind = ListKind::kRange;
  list->bounds = {start, stop, step};
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (static_cast<int64_t>(list->items.size()) == kMaxRange)
      meter.corrupt("range() of more than {}", kMaxRange);
    meter.step();
    list->items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return ListPtr(std::move(list));
}

Value make_method(Meter& meter, const Value& self, std::string name, const BuiltinFilter* builtin) {
  Callable method;
  method.name = std::move(name);
  method.builtin = builtin;
  method.depth = depth_above(meter, depth_of(self));
  method.self = self;
  return std::make_shared<const Callable>(std::move(method));
}

Value make_dict(Meter& meter, std::vector<std::pair<Value, Value>> entries) {
  auto dict = std::make_shared<Dict>();
  int deepest = 0;
  for (auto& [key, value] : entries) {
    if (!is_hashable(key)) meter.corrupt("a dict key of the type {}", type_name(key));
    deepest = std::max({deepest, depth_of(key), depth_of(value)});
    if (const Value* old = find_key(meter, *dict, key)) {
      *const_cast<Value*>(old) =
          std::move(value);  // an entry of `dict`, which is ours and not const
    } else {
      dict->entries.emplace_back(std::move(key), std::move(value));
    }
  }
  dict->depth = depth_above(meter, deepest);
  return DictPtr(std::move(dict));
}

Value from_json(Meter& meter, const Json& json, Origin strings) {
  return json_at_depth(meter, json, strings, 1);
}

const char* kind_name(ListKind kind) {
  static constexpr const char* kNames[] = {"list",      "tuple",     "tuple",       "range",
                                           "generator", "dict_keys", "dict_values", "dict_items"};
  return kNames[static_cast<size_t>(kind)];
}

std::string type_name(const Value& v) {
  if (is<ListPtr>(v)) return kind_name(std::get<ListPtr>(v)->kind);
  static constexpr const char* kNames[] = {"undefined", "none",   "bool",     "int",
                                           "float",     "string", "list",     "dict",
                                           "namespace", "loop",   "function", "cycler"};
  static_assert(std::size(kNames) == std::variant_size_v<Value>);
  return kNames[v.index()];
}

bool truth(const Value& v) {
  if (is_undefined(v) || is<None>(v)) return false;
  if (is_integral(v)) return to_int(v) != 0;
  if (const auto* number = std::get_if<double>(&v)) return *number != 0.0;
  if (const Text* text = as_text(v)) return !text->empty();
  if (const auto* list = std::get_if<ListPtr>(&v)) {
    return (*list)->kind == ListKind::kGenerator || !(*list)->items.empty();
  }
  if (const auto* dict = std::get_if<DictPtr>(&v)) return !(*dict)->entries.empty();
  return true;
}

namespace {

// Exact, as Python's is: an integer that a double cannot hold is not rounded first.
std::partial_ordering compare_exactly(int64_t a, double b) {
  constexpr double kLimit = 9223372036854775808.0;
  if (std::isnan(b)) return std::partial_ordering::unordered;
  if (b >= kLimit) return std::partial_ordering::less;
  if (b < -kLimit) return std::partial_ordering::greater;
  const auto whole = static_cast<int64_t>(b);
  return a != whole ? std::partial_ordering(a <=> whole) : 0.0 <=> b - std::trunc(b);
}

std::partial_ordering compare_numbers(const Value& a, const Value& b) {
  if (is<double>(a) && is<double>(b)) return std::get<double>(a) <=> std::get<double>(b);
  if (is<double>(b)) return compare_exactly(to_int(a), std::get<double>(b));
  return 0 <=> compare_exactly(to_int(b), std::get<double>(a));
}

}  // namespace

bool equal(Meter& meter, const Value& a, const Value& b) {
  meter.step();
  if (is_integral(a) && is_integral(b)) return to_int(a) == to_int(b);
  if (is_number(a) && is_number(b)) return compare_numbers(a, b) == 0;
  if (a.index() != b.index()) return false;
  if (const Text* text = as_text(a)) {
    const Text& other = *as_text(b);
    if (text->size() != other.size()) return false;
    meter.walk(text->size());
    return text->view() == other.view();
  }
  if (is<ListPtr>(a)) return equal_lists(meter, *std::get<ListPtr>(a), *std::get<ListPtr>(b));
  if (is<DictPtr>(a)) return equal_dicts(meter, *std::get<DictPtr>(a), *std::get<DictPtr>(b));
  if (is<Namespace*>(a)) return std::get<Namespace*>(a) == std::get<Namespace*>(b);
  if (is<LoopPtr>(a)) return std::get<LoopPtr>(a) == std::get<LoopPtr>(b);
  if (is<CallablePtr>(a)) return std::get<CallablePtr>(a) == std::get<CallablePtr>(b);
  if (is<Cycler*>(a)) return std::get<Cycler*>(a) == std::get<Cycler*>(b);
  return true;  // undefined and none
}

std::partial_ordering compare(Meter& meter, const Value& a, const Value& b) {
  meter.step();
  if (is_integral(a) && is_integral(b)) return to_int(a) <=> to_int(b);
  if (is_number(a) && is_number(b)) return compare_numbers(a, b);
  if (as_text(a) != nullptr && as_text(b) != nullptr) {
    meter.walk(std::min(as_text(a)->size(), as_text(b)->size()));
    return as_text(a)->view().compare(as_text(b)->view()) <=> 0;
  }
  const auto is_list = [](const Value& v) {
    return is<ListPtr>(v) && std::get<ListPtr>(v)->kind == ListKind::kList;
  };
  if ((is_list(a) && is_list(b)) || (is_tuple(a) && is_tuple(b))) {
    const auto& left = std::get<ListPtr>(a)->items;
    const auto& right = std::get<ListPtr>(b)->items;
    for (size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
      if (!equal(meter, left[i], right[i])) return compare(meter, left[i], right[i]);
    }
    return left.size() <=> right.size();
  }
  meter.corrupt("{} and {} have no order", type_name(a), type_name(b));
}

const Value* find_key(Meter& meter, const Dict& dict, const Value& key) {
  for (const auto& [candidate, value] : dict.entries) {
    if (equal(meter, candidate, key)) return &value;
  }
  return nullptr;
}

bool contains(Meter& meter, const Value& container, const Value& item) {
  if (const Text* text = as_text(container)) {
    const Text* needle = as_text(item);
    if (needle == nullptr) meter.corrupt("'in' looks for a {} in a string", type_name(item));
    meter.walk(text->size() + needle->size());
    return needle->empty() ||
           (needle->size() <= text->size() &&
            Finder(needle->view()).find(text->view(), 0) != std::string_view::npos);
  }
  if (const auto* dict = std::get_if<DictPtr>(&container)) {
    if (!is_hashable(item)) meter.corrupt("'in' looks for a {} in a dict", type_name(item));
    return find_key(meter, **dict, item) != nullptr;
  }
  if (const auto* list = std::get_if<ListPtr>(&container)) {
    const List& l = **list;
    for (size_t i = l.taken != nullptr ? *l.taken : 0; i < l.items.size(); ++i) {
      if (l.taken != nullptr) *l.taken = i + 1;
      if (equal(meter, l.items[i], item)) return true;
    }
    return false;
  }
  if (is_undefined(container)) return false;
  meter.corrupt("'in' a {}", type_name(container));
}

std::vector<Value> elements(Meter& meter, const Value& v) {
  std::vector<Value> result;
  if (const auto* list = std::get_if<ListPtr>(&v)) {
    const List& l = **list;
    const size_t from = l.taken != nullptr ? std::exchange(*l.taken, l.items.size()) : 0;
    meter.step(l.items.size() - from);
    result.assign(l.items.begin() + static_cast<std::ptrdiff_t>(from), l.items.end());
  } else if (const auto* dict = std::get_if<DictPtr>(&v)) {
    meter.step((*dict)->entries.size());
    for (const auto& entry : (*dict)->entries) result.push_back(entry.first);
  } else if (const Text* text = as_text(v)) {
    for (size_t at = 0; at < text->size();) {
      const size_t next = at + char_at(text->view(), at).length;
      Text one = text->slice(at, next);
      one.set_markup(false);  // as Python, which gives plain characters here
      result.push_back(make_text(meter, std::move(one)));
      at = next;
    }
  } else if (!is_undefined(v)) {
    meter.corrupt("a {} has no elements", type_name(v));
  }
  return result;
}

int64_t length(Meter& meter, const Value& v) {
  if (const Text* text = as_text(v)) {
    meter.walk(text->size());
    return static_cast<int64_t>(count_chars(text->view()));
  }
  if (const auto* list = std::get_if<ListPtr>(&v); list != nullptr && (*list)->taken == nullptr)
    return static_cast<int64_t>((*list)->items.size());
  if (const auto* dict = std::get_if<DictPtr>(&v))
    return static_cast<int64_t>((*dict)->entries.size());
  if (is_undefined(v)) return 0;
  meter.corrupt("a {} has no length", type_name(v));
}

}  // namespace pith::jinja
