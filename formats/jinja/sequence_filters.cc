// The filters of lists, dicts and other iterables. Filters that are lazy in Jinja return generators
// whose elements are all computed at once.

#include <algorithm>
#include <limits>

#include "formats/jinja/builtins.h"
#include "formats/jinja/operators.h"
#include "formats/jinja/print.h"

namespace pith::jinja {
namespace {

using Args = const ArgumentValues&;

Value generator(Interpreter& in, std::vector<Value> items) {
  return make_list(in.meter(), std::move(items), ListKind::kGenerator);
}

// The member that a dotted path names: "function.name", "0"; `missing`, where it is given, stands
// in for each step that is not there.
Value member(Interpreter& in, const Value& v, const Value& path, const Value& missing = {}) {
  if (is_undefined(path) || is<None>(path)) return v;
  const auto or_missing = [&](Value found) {
    const bool stands_in = is_undefined(found) && !is_undefined(missing) && !is<None>(missing);
    return stands_in ? missing : found;
  };
  if (is_integral(path)) return or_missing(in.item(v, path));
  const Text& text = in.text_argument(path, "the name of an attribute");
  in.meter().walk(text.size());
  Value result = v;
  const std::string_view s = text.view();
  for (size_t at = 0; at <= s.size();) {
    const size_t end = std::min(s.find('.', at), s.size());
    const std::string_view name = s.substr(at, end - at);
    in.meter().step();
    const bool number =
        !name.empty() && name.size() < 19 &&
        std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (number) {
      int64_t place = 0;
      for (const char c : name) place = place * 10 + (c - '0');
      result = or_missing(in.item(result, place));
    } else {
      result = or_missing(in.item(result, make_text(in.meter(), name)));
    }
    at = end + 1;
  }
  return result;
}

// The arguments after the first `count`, for the filter or test that they name.
ArgumentValues rest_of(Args args, size_t count) {
  ArgumentValues rest = args;
  rest.positional.erase(rest.positional.begin(),
                        rest.positional.begin() + static_cast<std::ptrdiff_t>(count));
  return rest;
}

Value map(Interpreter& in, const Value& v, Args args) {
  if (!truth(v)) return generator(in, {});
  std::vector<Value> items = elements(in.meter(), v);
  if (args.positional.empty()) {
    in.check_arguments("map", args, "attribute default");
    const Value path = args.get(0, "attribute"), missing = args.get(1, "default");
    if (is_undefined(path)) in.meter().corrupt("'map' without a filter and without an attribute");
    for (Value& item : items) item = member(in, item, path, missing);
  } else {
    const std::string name(in.text_argument(args.positional[0], "the name of a filter").view());
    const ArgumentValues rest = rest_of(args, 1);
    for (Value& item : items) item = in.filter(name, item, rest);
  }
  return generator(in, std::move(items));
}

template <bool kByMember, bool kWanted>
Value choose(Interpreter& in, const Value& v, Args args) {
  constexpr size_t kUsed = kByMember ? 1 : 0;
  if (!truth(v)) return generator(in, {});
  if (args.positional.size() < kUsed)
    in.meter().corrupt("a selection without the name of an attribute");
  const bool has_test = args.positional.size() > kUsed;
  const std::string name(
      has_test ? in.text_argument(args.positional[kUsed], "the name of a test").view() : "");
  const ArgumentValues rest = rest_of(args, kUsed + (has_test ? 1 : 0));
  std::vector<Value> kept;
  for (Value& item : elements(in.meter(), v)) {
    const Value subject = kByMember ? member(in, item, args.positional[0]) : item;
    const bool holds = has_test ? in.test(name, subject, rest) : truth(subject);
    if (holds == kWanted) kept.push_back(std::move(item));
  }
  return generator(in, std::move(kept));
}

Value folded(Interpreter& in, Value key, bool case_sensitive) {
  return as_text(key) != nullptr && !case_sensitive ? cased(in, *as_text(key), Case::kLower) : key;
}

// The key that an item is sorted and compared by.
Value sort_key(Interpreter& in, const Value& item, const Value& path, bool case_sensitive,
               const Value& missing = {}) {
  return folded(in, member(in, item, path, missing), case_sensitive);
}

// A list, as Jinja compares: of one key, or of several where the path has commas.
Value sort_keys(Interpreter& in, const Value& item, const Value& path, bool case_sensitive) {
  const Text* text = as_text(path);
  if (text == nullptr || text->view().find(',') == std::string_view::npos) {
    return make_list(in.meter(), {sort_key(in, item, path, case_sensitive)});
  }
  std::vector<Value> keys;
  const std::string_view s = text->view();
  for (size_t at = 0; at <= s.size();) {
    const size_t end = std::min(s.find(',', at), s.size());
    keys.push_back(
        sort_key(in, item, make_text(in.meter(), s.substr(at, end - at)), case_sensitive));
    at = end + 1;
  }
  return make_list(in.meter(), std::move(keys));
}

std::vector<Value> sorted(Interpreter& in, const std::vector<Value>& items,
                          const std::vector<Value>& keys, bool reverse) {
  std::vector<size_t> order(items.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return reverse ? compare(in.meter(), keys[b], keys[a]) < 0
                   : compare(in.meter(), keys[a], keys[b]) < 0;
  });
  std::vector<Value> result;
  for (const size_t i : order) result.push_back(items[i]);
  return result;
}

Value sort(Interpreter& in, const Value& v, Args args) {
  const std::vector<Value> items = elements(in.meter(), v);
  const bool case_sensitive = in.flag_or(args.get(1, "case_sensitive"), false);
  std::vector<Value> keys;
  for (const Value& item : items) {
    keys.push_back(sort_keys(in, item, args.get(2, "attribute"), case_sensitive));
  }
  return make_list(in.meter(), sorted(in, items, keys, in.flag_or(args.get(0, "reverse"), false)));
}

Value dictsort(Interpreter& in, const Value& v, Args args) {
  if (!is<DictPtr>(v)) in.meter().corrupt("dictsort of a {}", type_name(v));
  const bool case_sensitive = in.flag_or(args.get(0, "case_sensitive"), false);
  const Value& by = args.get(1, "by");
  const std::string_view what = is_undefined(by) ? "key" : in.text_argument(by, "'by'").view();
  if (what != "key" && what != "value") in.meter().corrupt("dictsort by neither key nor value");
  const auto& entries = std::get<DictPtr>(v)->entries;
  std::vector<Value> keys;
  for (const auto& [key, value] : entries) {
    keys.push_back(folded(in, what == "key" ? key : value, case_sensitive));
  }
  const Value pairs = dict_items(in, *std::get<DictPtr>(v), ListKind::kList);
  return make_list(in.meter(), sorted(in, std::get<ListPtr>(pairs)->items, keys,
                                      in.flag_or(args.get(2, "reverse"), false)));
}

Value group_by(Interpreter& in, const Value& v, Args args) {
  const Value &path = args.get(0, "attribute"), &missing = args.get(1, "default");
  if (is_undefined(path)) in.meter().corrupt("groupby without an attribute");
  const bool case_sensitive = in.flag_or(args.get(2, "case_sensitive"), false);
  std::vector<Value> keys, members;
  const std::vector<Value> items = elements(in.meter(), v);
  for (const Value& item : items) keys.push_back(sort_key(in, item, path, case_sensitive, missing));
  std::vector<Value> places;
  for (size_t i = 0; i < items.size(); ++i) places.emplace_back(static_cast<int64_t>(i));
  std::vector<Value> groups;
  const std::vector<Value> order = sorted(in, places, keys, false);
  for (size_t i = 0; i < order.size();) {
    const auto first = static_cast<size_t>(to_int(order[i]));
    members.clear();
    for (; i < order.size(); ++i) {
      const auto place = static_cast<size_t>(to_int(order[i]));
      if (!equal(in.meter(), keys[place], keys[first])) break;
      members.push_back(items[place]);
    }
    const Value name = case_sensitive ? keys[first] : member(in, items[first], path, missing);
    groups.push_back(
        make_list(in.meter(), {name, make_list(in.meter(), members)}, ListKind::kGroup));
  }
  return make_list(in.meter(), std::move(groups));
}

Value unique(Interpreter& in, const Value& v, Args args) {
  const bool case_sensitive = in.flag_or(args.get(0, "case_sensitive"), false);
  std::vector<std::pair<Value, Value>> seen;
  std::vector<Value> kept;
  for (Value& item : elements(in.meter(), v)) {
    Value key = sort_key(in, item, args.get(1, "attribute"), case_sensitive);
    if (!is_hashable(key)) {
      in.meter().corrupt("unique of a {}", type_name(key));
    }
    if (std::any_of(seen.begin(), seen.end(),
                    [&](const auto& other) { return equal(in.meter(), key, other.first); })) {
      continue;
    }
    seen.emplace_back(std::move(key), None{});
    kept.push_back(std::move(item));
  }
  return generator(in, std::move(kept));
}

template <bool kLargest>
Value extreme(Interpreter& in, const Value& v, Args args) {
  const bool case_sensitive = in.flag_or(args.get(0, "case_sensitive"), false);
  const std::vector<Value> items = elements(in.meter(), v);
  if (items.empty()) return Undefined{};
  size_t best = 0;
  Value best_key = sort_key(in, items[0], args.get(1, "attribute"), case_sensitive);
  for (size_t i = 1; i < items.size(); ++i) {
    Value key = sort_key(in, items[i], args.get(1, "attribute"), case_sensitive);
    const auto order = compare(in.meter(), key, best_key);
    if (kLargest ? order > 0 : order < 0) {
      best = i;
      best_key = std::move(key);
    }
  }
  return items[best];
}

Value sum(Interpreter& in, const Value& v, Args args) {
  Value total = args.has(1, "start") ? args.get(1, "start") : Value(int64_t{0});
  if (as_text(total) != nullptr) in.meter().corrupt("sum of strings");
  for (const Value& item : elements(in.meter(), v)) {
    in.meter().step();
    total = arithmetic(in.meter(), "+", total, member(in, item, args.get(0, "attribute")));
  }
  return total;
}

int64_t count_argument(Interpreter& in, const Value& v, std::string_view what) {
  if (!is_integral(v)) in.meter().corrupt("{} should be an integer", what);
  return to_int(v);
}

Value batch(Interpreter& in, const Value& v, Args args) {
  const int64_t size = count_argument(in, args.get(0, "linecount"), "the size of a batch");
  const Value& fill = args.get(1, "fill_with");
  std::vector<Value> batches, one;
  for (Value& item : elements(in.meter(), v)) {
    if (static_cast<int64_t>(one.size()) == size) {
      batches.push_back(make_list(in.meter(), std::exchange(one, {})));
    }
    one.push_back(std::move(item));
  }
  if (!one.empty()) {
    if (!is_undefined(fill) && !is<None>(fill)) {
      while (static_cast<int64_t>(one.size()) < size) {
        in.meter().step();
        one.push_back(fill);
      }
    }
    batches.push_back(make_list(in.meter(), std::move(one)));
  }
  return generator(in, std::move(batches));
}

Value slices(Interpreter& in, const Value& v, Args args) {
  const int64_t count = count_argument(in, args.get(0, "slices"), "the number of slices");
  const Value& fill = args.get(1, "fill_with");
  if (count == 0) in.meter().corrupt("division by zero");
  const std::vector<Value> items = elements(in.meter(), v);
  const auto n = static_cast<int64_t>(items.size());
  std::vector<Value> result;
  int64_t at = 0;
  for (int64_t i = 0; i < count; ++i) {
    in.meter().step();
    const bool longer = i < n % count;
    const int64_t end = at + n / count + (longer ? 1 : 0);
    std::vector<Value> part(items.begin() + at, items.begin() + end);
    if (!is_undefined(fill) && !is<None>(fill) && !longer) part.push_back(fill);
    result.push_back(make_list(in.meter(), std::move(part)));
    at = end;
  }
  return generator(in, std::move(result));
}

Value reverse(Interpreter& in, const Value& v, Args) {
  if (as_text(v) != nullptr) return slice(in.meter(), v, None{}, None{}, int64_t{-1});
  std::vector<Value> items = elements(in.meter(), v);
  std::reverse(items.begin(), items.end());
  // A generator, which can be consumed only once, becomes a list, as in Jinja.
  const bool once = is<ListPtr>(v) && std::get<ListPtr>(v)->taken != nullptr;
  return once ? make_list(in.meter(), std::move(items)) : generator(in, std::move(items));
}

// Characters of markup are no markup.
Value plain(Interpreter& in, const Value& v) {
  if (as_text(v) == nullptr || !as_text(v)->markup()) return v;
  Text text = *as_text(v);
  text.set_markup(false);
  return make_text(in.meter(), std::move(text));
}

Value first(Interpreter& in, const Value& v, Args) {
  if (as_text(v) != nullptr) return plain(in, in.item(v, int64_t{0}));
  if (const auto* list = std::get_if<ListPtr>(&v)) {
    const List& l = **list;
    const size_t at = l.taken != nullptr ? *l.taken : 0;
    if (at >= l.items.size()) return Undefined{};
    if (l.taken != nullptr) *l.taken = at + 1;
    return l.items[at];
  }
  const std::vector<Value> items = elements(in.meter(), v);
  return items.empty() ? Value{} : items.front();
}

Value last(Interpreter& in, const Value& v, Args) {
  if (as_text(v) != nullptr) return plain(in, in.item(v, int64_t{-1}));
  if (is<ListPtr>(v) && std::get<ListPtr>(v)->taken != nullptr) {
    in.meter().corrupt("the last of a generator; a list has one");
  }
  const std::vector<Value> items = elements(in.meter(), v);
  return items.empty() ? Value{} : items.back();
}

Value join(Interpreter& in, const Value& v, Args args) {
  std::vector<Value> items = elements(in.meter(), v);
  const Value& path = args.get(1, "attribute");
  if (!is_undefined(path)) {
    for (Value& item : items) item = member(in, item, path);
  }
  const Value& separator = args.get(0, "d");
  const auto is_markup = [](const Value& item) {
    return as_text(item) != nullptr && as_text(item)->markup();
  };
  const bool markup = in.autoescape() &&
                      (is_markup(separator) || std::any_of(items.begin(), items.end(), is_markup));
  Text between = *to_text_like(in, separator, markup);
  between.set_markup(markup);
  return join_values(in, std::make_shared<const Text>(std::move(between)), items);
}

Value with_default(Interpreter& in, const Value& v, Args args) {
  const bool missing = is_undefined(v) || (in.flag_or(args.get(1, "boolean"), false) && !truth(v));
  if (!missing) return v;
  return args.has(0, "default_value") ? args.get(0, "default_value") : make_text(in.meter(), "");
}

Value items_of(Interpreter& in, const Value& v, Args) {
  if (is_undefined(v)) return generator(in, {});
  if (!is<DictPtr>(v)) in.meter().corrupt("items of a {}", type_name(v));
  return dict_items(in, *std::get<DictPtr>(v), ListKind::kGenerator);
}

Value attr(Interpreter& in, const Value& v, Args args) {
  const TextPtr name = to_text(in.meter(), args.get(0, "name"));
  // Unlike the dot, this does not look at the members of a dict.
  if (is<DictPtr>(v)) {
    const BuiltinFilter* method = find_method(v, name->view());
    return method != nullptr ? make_method(in.meter(), v, std::string(name->view()), method)
                             : Value{};
  }
  return in.attribute(v, std::string(name->view()));
}

Value length_of(Interpreter& in, const Value& v, Args) { return length(in.meter(), v); }
Value list_of(Interpreter& in, const Value& v, Args) {
  return make_list(in.meter(), elements(in.meter(), v));
}

}  // namespace

const FilterTable& sequence_filters() {
  static const FilterTable kTable = {
      {"length", {length_of, ""}},
      {"count", {length_of, ""}},
      {"default", {with_default, "default_value boolean"}},
      {"d", {with_default, "default_value boolean"}},
      {"first", {first, ""}},
      {"last", {last, ""}},
      {"join", {join, "d attribute"}},
      {"list", {list_of, ""}},
      {"reverse", {reverse, ""}},
      {"sort", {sort, "reverse case_sensitive attribute"}},
      {"dictsort", {dictsort, "case_sensitive by reverse"}},
      {"groupby", {group_by, "attribute default case_sensitive"}},
      {"unique", {unique, "case_sensitive attribute"}},
      {"min", {extreme<false>, "case_sensitive attribute"}},
      {"max", {extreme<true>, "case_sensitive attribute"}},
      {"sum", {sum, "attribute start"}},
      {"batch", {batch, "linecount fill_with"}},
      {"slice", {slices, "slices fill_with"}},
      {"items", {items_of, ""}},
      {"attr", {attr, "name"}},
      {"map", {map, "*"}},
      {"select", {choose<false, true>, "*"}},
      {"reject", {choose<false, false>, "*"}},
      {"selectattr", {choose<true, true>, "*"}},
      {"rejectattr", {choose<true, false>, "*"}},
  };
  return kTable;
}

}  // namespace pith::jinja
