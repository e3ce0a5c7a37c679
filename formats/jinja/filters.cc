// The filters. Those that Jinja makes lazy give lists here.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <unordered_map>

#include "formats/jinja/builtins.h"
#include "formats/jinja/operators.h"
#include "formats/jinja/print.h"

namespace pith::jinja {
namespace {

using Args = const ArgumentValues&;

// ---- text

Value cased(Interpreter& in, const Value& v, Case to) {
  const TextPtr text = to_text(in.meter(), v);
  in.meter().step(1 + text->size() / 16);
  return make_text(in.meter(), change_case(*text, to));
}

Value trim(Interpreter& in, const Value& v, Args args) {
  const TextPtr text = to_text(in.meter(), v);
  in.meter().step(1 + text->size() / 16);
  const Value& chars = args.get(0, "chars");
  if (is_undefined(chars) || is<None>(chars)) {
    return make_text(in.meter(), strip(*text, nullptr, true, true));
  }
  const std::string set(in.text_argument(chars, "the characters to trim").view());
  in.meter().step(1 + set.size() / 16);
  return make_text(in.meter(), strip(*text, &set, true, true));
}

Value replace(Interpreter& in, const Value& v, Args args) {
  return replace_text(in, *to_text(in.meter(), v), args);
}

Value escape(Interpreter& in, const Value& v, Args) {
  const TextPtr text = to_text(in.meter(), v);
  in.meter().make(text->size() * 5);
  Text result;
  for (size_t i = 0; i < text->size(); ++i) {
    const char c = text->view()[i];
    const std::string_view entity = c == '&'    ? "&amp;"
                                    : c == '<'  ? "&lt;"
                                    : c == '>'  ? "&gt;"
                                    : c == '"'  ? "&#34;"
                                    : c == '\'' ? "&#39;"
                                                : std::string_view(&c, 1);
    result.append(entity, text->origin(i));
  }
  return make_text(in.meter(), std::move(result));
}

Value indent(Interpreter& in, const Value& v, Args args) {
  const TextPtr text = to_text(in.meter(), v);
  const Value& width = args.get(0, "width");
  const bool first = in.flag_or(args.get(1, "first"), false);
  const bool blank = in.flag_or(args.get(2, "blank"), false);
  Text margin;
  if (const Text* given = as_text(width)) {
    margin = *given;
  } else {
    const int64_t n = std::max<int64_t>(in.integer_or(width, 4, "the width"), 0);
    in.meter().make(static_cast<uint64_t>(n));
    margin = Text(std::string(static_cast<size_t>(n), ' '), Origin::kTemplate);
  }
  const std::string_view s = text->view();
  const auto lines = static_cast<uint64_t>(std::count(s.begin(), s.end(), '\n')) + 1;
  in.meter().make(s.size() + lines * margin.size());
  Text result;
  for (size_t at = 0; at <= s.size();) {
    const size_t end = std::min(s.find('\n', at), s.size());
    if ((at > 0 || first) && (end > at || blank)) result.append(margin);
    result.append(*text, at, std::min(end + 1, s.size()) - at);
    at = end + 1;
  }
  return make_text(in.meter(), std::move(result));
}

Value tojson(Interpreter& in, const Value& v, Args args) {
  JsonStyle style;
  const Value& width = args.get(0, "indent");
  if (!is_undefined(width) && !is<None>(width)) {
    style.indent = in.integer_or(width, 0, "the indentation");
    style.item_separator = ",";
  }
  if (in.flag_or(args.get(1, "ensure_ascii"), false))
    in.meter().unsupported("tojson with ensure_ascii");
  if (in.flag_or(args.get(3, "sort_keys"), false)) in.meter().unsupported("tojson with sort_keys");
  const Value& separators = args.get(2, "separators");
  if (!is_undefined(separators) && !is<None>(separators)) {
    const auto pair = elements(in.meter(), separators);
    if (pair.size() != 2) in.meter().corrupt("tojson wants two separators");
    for (const Value& separator : pair) {
      const Text& text = in.text_argument(separator, "a separator");
      in.meter().make(text.size());
      if (text.safe_origin() == Origin::kContent) style.origin = Origin::kContent;
    }
    style.item_separator = as_text(pair[0])->view();
    style.key_separator = as_text(pair[1])->view();
  }
  return to_json(in.meter(), v, style);
}

// ---- numbers

template <class Number>
bool read_number(std::string_view s, Number& number) {
  if (s.starts_with('+')) s.remove_prefix(1);
  const auto parsed = std::from_chars(s.data(), s.data() + s.size(), number);
  return !s.empty() && parsed.ec == std::errc() && parsed.ptr == s.data() + s.size();
}

Value truncated(const Value& missing, double d) {
  constexpr double kLimit = 9223372036854775808.0;
  if (!(d > -kLimit && d < kLimit)) return missing;
  return static_cast<int64_t>(d);
}

Value to_integer(Interpreter& in, const Value& v, Args args) {
  const Value& given = args.get(0, "default");
  const Value missing = is_undefined(given) ? Value(int64_t{0}) : given;
  if (const auto* d = std::get_if<double>(&v)) return truncated(missing, *d);
  if (is_number(v)) return in.integer_or(v, 0, "");
  const Text* text = as_text(v);
  if (text == nullptr) return missing;
  in.meter().step(1 + text->size() / 16);
  const Text digits = strip(*text, nullptr, true, true);
  int64_t n = 0;
  if (read_number(digits.view(), n)) return n;
  double d = 0;
  return read_number(digits.view(), d) ? truncated(missing, d) : missing;
}

Value to_float(Interpreter& in, const Value& v, Args args) {
  const Value& given = args.get(0, "default");
  if (is_number(v)) return to_double(v);
  if (const Text* text = as_text(v)) {
    in.meter().step(1 + text->size() / 16);
    double d = 0;
    if (read_number(strip(*text, nullptr, true, true).view(), d)) return d;
  }
  return is_undefined(given) ? Value(0.0) : given;
}

Value absolute(Interpreter& in, const Value& v, Args) {
  if (!is_number(v)) in.meter().corrupt("abs of a {}", type_name(v));
  if (const auto* d = std::get_if<double>(&v)) return std::fabs(*d);
  const int64_t n = in.integer_or(v, 0, "");
  return n < 0 ? negate(in.meter(), n) : Value(n);
}

Value round_number(Interpreter& in, const Value& v, Args args) {
  if (!is_number(v)) in.meter().corrupt("round of a {}", type_name(v));
  const int64_t places = in.integer_or(args.get(0, "precision"), 0, "the precision");
  const Value& method = args.get(1, "method");
  const std::string how(is_undefined(method) ? "common"
                                             : in.text_argument(method, "the method").view());
  const double scale = std::pow(10.0, static_cast<double>(places)), x = to_double(v) * scale;
  if (!std::isfinite(x) || scale == 0.0) return to_double(v);
  if (how == "ceil") return std::ceil(x) / scale;
  if (how == "floor") return std::floor(x) / scale;
  if (how != "common") in.meter().unsupported("round with the method '{}'", how);
  return std::nearbyint(x) / scale;  // ties to even, as Python's
}

// ---- sequences

// The member that a dotted path names: "function.name", "0".
Value member(Interpreter& in, const Value& v, const Value& path) {
  if (is<int64_t>(path)) return in.item(v, path);
  const Text& text = in.text_argument(path, "the name of an attribute");
  in.meter().walk(text.size());
  Value result = v;
  const std::string_view s = text.view();
  for (size_t at = 0; at <= s.size();) {
    const size_t end = std::min(s.find('.', at), s.size());
    const std::string_view name = s.substr(at, end - at);
    int64_t place = 0;
    in.meter().step();
    if (read_number(name, place)) {
      result = in.item(result, place);
    } else if (is<DictPtr>(result)) {
      result = in.item(result, make_text(in.meter(), name));
    } else {
      result = in.attribute(result, std::string(name));
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
  std::vector<Value> items = elements(in.meter(), v);
  if (args.positional.empty()) {
    in.check_arguments("map", args, "attribute default");
    const Value path = args.get(0, "attribute"), missing = args.get(1, "default");
    for (Value& item : items) {
      item = member(in, item, path);
      if (is_undefined(item)) item = missing;
    }
  } else {
    const std::string name(in.text_argument(args.positional[0], "the name of a filter").view());
    const ArgumentValues rest = rest_of(args, 1);
    for (Value& item : items) item = in.filter(name, item, rest);
  }
  return make_list(in.meter(), std::move(items));
}

Value choose(Interpreter& in, const Value& v, Args args, bool by_member, bool wanted) {
  const size_t used = by_member ? 1 : 0;
  if (args.positional.size() < used)
    in.meter().corrupt("a selection without the name of an attribute");
  const bool has_test = args.positional.size() > used;
  const std::string name(
      has_test ? in.text_argument(args.positional[used], "the name of a test").view() : "");
  const ArgumentValues rest = rest_of(args, used + (has_test ? 1 : 0));
  std::vector<Value> kept;
  for (Value& item : elements(in.meter(), v)) {
    const Value subject = by_member ? member(in, item, args.positional[0]) : item;
    const bool holds = has_test ? in.test(name, subject, rest) : truth(subject);
    if (holds == wanted) kept.push_back(std::move(item));
  }
  return make_list(in.meter(), std::move(kept));
}

// What an item is sorted and compared by.
Value sort_key(Interpreter& in, const Value& item, const Value& path, bool case_sensitive) {
  Value key = is_undefined(path) ? item : member(in, item, path);
  return as_text(key) != nullptr && !case_sensitive ? cased(in, key, Case::kLower) : key;
}

std::vector<Value> sorted(Interpreter& in, const std::vector<Value>& items, const Value& path,
                          bool case_sensitive, bool reverse) {
  std::vector<std::pair<Value, size_t>> keys;
  for (size_t i = 0; i < items.size(); ++i) {
    keys.emplace_back(sort_key(in, items[i], path, case_sensitive), i);
  }
  std::stable_sort(keys.begin(), keys.end(), [&](const auto& a, const auto& b) {
    return reverse ? compare(in.meter(), b.first, a.first) < 0
                   : compare(in.meter(), a.first, b.first) < 0;
  });
  std::vector<Value> result;
  for (const auto& key : keys) result.push_back(items[key.second]);
  return result;
}

Value sort(Interpreter& in, const Value& v, Args args) {
  return make_list(in.meter(), sorted(in, elements(in.meter(), v), args.get(2, "attribute"),
                                      in.flag_or(args.get(1, "case_sensitive"), false),
                                      in.flag_or(args.get(0, "reverse"), false)));
}

Value dictsort(Interpreter& in, const Value& v, Args args) {
  if (!is<DictPtr>(v)) in.meter().corrupt("dictsort of a {}", type_name(v));
  const Value& by = args.get(1, "by");
  const bool by_value = !is_undefined(by) && in.text_argument(by, "'by'").view() == "value";
  const Value pairs = dict_items(in, *std::get<DictPtr>(v));
  return make_list(in.meter(),
                   sorted(in, std::get<ListPtr>(pairs)->items, int64_t{by_value ? 1 : 0},
                          in.flag_or(args.get(0, "case_sensitive"), false),
                          in.flag_or(args.get(2, "reverse"), false)));
}

Value unique(Interpreter& in, const Value& v, Args args) {
  const bool case_sensitive = in.flag_or(args.get(0, "case_sensitive"), false);
  std::vector<Value> seen, kept;
  for (Value& item : elements(in.meter(), v)) {
    Value key = sort_key(in, item, args.get(1, "attribute"), case_sensitive);
    if (std::any_of(seen.begin(), seen.end(),
                    [&](const Value& other) { return equal(in.meter(), key, other); })) {
      continue;
    }
    seen.push_back(std::move(key));
    kept.push_back(std::move(item));
  }
  return make_list(in.meter(), std::move(kept));
}

Value reverse(Interpreter& in, const Value& v, Args) {
  if (as_text(v) != nullptr) return slice(in.meter(), v, None{}, None{}, int64_t{-1});
  std::vector<Value> items = elements(in.meter(), v);
  std::reverse(items.begin(), items.end());
  return make_list(in.meter(), std::move(items));
}

Value end_of(Interpreter& in, const Value& v, bool first) {
  if (as_text(v) != nullptr || is<ListPtr>(v)) return in.item(v, int64_t{first ? 0 : -1});
  const std::vector<Value> items = elements(in.meter(), v);
  if (items.empty()) return Undefined{};
  return first ? items.front() : items.back();
}

Value join(Interpreter& in, const Value& v, Args args) {
  std::vector<Value> items = elements(in.meter(), v);
  const Value& path = args.get(1, "attribute");
  if (!is_undefined(path)) {
    for (Value& item : items) item = member(in, item, path);
  }
  return join_values(in, args.get(0, "d"), items);
}

Value with_default(Interpreter& in, const Value& v, Args args) {
  const bool missing = is_undefined(v) || (in.flag_or(args.get(1, "boolean"), false) && !truth(v));
  if (!missing) return v;
  const Value& given = args.get(0, "default_value");
  return is_undefined(given) ? make_text(in.meter(), "") : given;
}

Value items_of(Interpreter& in, const Value& v, Args) {
  if (is_undefined(v)) return make_list(in.meter(), {});
  if (!is<DictPtr>(v)) in.meter().corrupt("items of a {}", type_name(v));
  return dict_items(in, *std::get<DictPtr>(v));
}

Value length_of(Interpreter& in, const Value& v, Args) { return length(in.meter(), v); }
Value as_it_is(Interpreter&, const Value& v, Args) { return v; }
Value string_of(Interpreter& in, const Value& v, Args) { return to_text(in.meter(), v); }

}  // namespace

const BuiltinFilter* find_filter(std::string_view name) {
  static const std::unordered_map<std::string_view, BuiltinFilter> kTable = {
      {"trim", {trim, "chars"}},
      {"upper",
       {[](Interpreter& in, const Value& v, Args) { return cased(in, v, Case::kUpper); }, ""}},
      {"lower",
       {[](Interpreter& in, const Value& v, Args) { return cased(in, v, Case::kLower); }, ""}},
      {"title",
       {[](Interpreter& in, const Value& v, Args) { return cased(in, v, Case::kTitleFilter); },
        ""}},
      {"capitalize",
       {[](Interpreter& in, const Value& v, Args) { return cased(in, v, Case::kCapitalize); }, ""}},
      {"replace", {replace, "old new count"}},
      {"escape", {escape, ""}},
      {"e", {escape, ""}},
      {"safe", {as_it_is, ""}},
      {"string", {string_of, ""}},
      {"indent", {indent, "width first blank"}},
      {"tojson", {tojson, "indent ensure_ascii separators sort_keys"}},
      {"int", {to_integer, "default"}},
      {"float", {to_float, "default"}},
      {"abs", {absolute, ""}},
      {"round", {round_number, "precision method"}},
      {"length", {length_of, ""}},
      {"count", {length_of, ""}},
      {"default", {with_default, "default_value boolean"}},
      {"d", {with_default, "default_value boolean"}},
      {"first", {[](Interpreter& in, const Value& v, Args) { return end_of(in, v, true); }, ""}},
      {"last", {[](Interpreter& in, const Value& v, Args) { return end_of(in, v, false); }, ""}},
      {"join", {join, "d attribute"}},
      {"list",
       {[](Interpreter& in, const Value& v, Args) {
          return make_list(in.meter(), elements(in.meter(), v));
        },
        ""}},
      {"reverse", {reverse, ""}},
      {"sort", {sort, "reverse case_sensitive attribute"}},
      {"dictsort", {dictsort, "case_sensitive by reverse"}},
      {"unique", {unique, "case_sensitive attribute"}},
      {"items", {items_of, ""}},
      {"map", {map, "*"}},
      {"select",
       {[](Interpreter& in, const Value& v, Args a) { return choose(in, v, a, false, true); },
        "*"}},
      {"reject",
       {[](Interpreter& in, const Value& v, Args a) { return choose(in, v, a, false, false); },
        "*"}},
      {"selectattr",
       {[](Interpreter& in, const Value& v, Args a) { return choose(in, v, a, true, true); }, "*"}},
      {"rejectattr",
       {[](Interpreter& in, const Value& v, Args a) { return choose(in, v, a, true, false); },
        "*"}},
  };
  const auto it = kTable.find(name);
  return it == kTable.end() ? nullptr : &it->second;
}

}  // namespace pith::jinja
