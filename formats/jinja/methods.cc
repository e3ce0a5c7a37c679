// The methods of strings and dicts.

#include <algorithm>
#include <limits>
#include <unordered_map>

#include "formats/jinja/builtins.h"
#include "formats/jinja/print.h"

namespace pith::jinja {

Value replace_text(Interpreter& in, const Text& text, const ArgumentValues& args) {
  const Text& old = in.text_argument(args.get(0, "old"), "what is replaced");
  const Text& fresh = in.text_argument(args.get(1, "new"), "the replacement");
  const int64_t count = in.integer_or(args.get(2, "count"), -1, "the count");
  const size_t limit = count < 0 ? std::numeric_limits<size_t>::max() : static_cast<size_t>(count);
  in.meter().walk(text.size() + old.size());
  std::vector<size_t> found;
  if (old.empty()) {  // before every character, and at the end
    for (const uint32_t at : char_starts(text.view())) {
      if (found.size() < limit) found.push_back(at);
    }
  } else if (old.size() <= text.size()) {
    found = find_all(text.view(), old.view(), limit);
  }
  // Neither product overflows: a string has less than 2^32 bytes.
  in.meter().make(text.size() - found.size() * old.size() + found.size() * fresh.size());
  Text result;
  size_t at = 0;
  for (const size_t next : found) {
    result.append(text, at, next - at);
    result.append(fresh);
    at = next + old.size();
  }
  result.append(text, at, text.size() - at);
  return make_text(in.meter(), std::move(result));
}

namespace {

std::vector<Value> split_at_spaces(Meter& meter, const Text& text, size_t limit) {
  std::vector<Value> parts;
  const std::string_view s = text.view();
  size_t at = 0;
  while (true) {
    while (at < s.size() && is_space(char_at(s, at).code)) at += char_at(s, at).length;
    if (at == s.size()) return parts;
    if (parts.size() == limit) {
      parts.push_back(make_text(meter, text.slice(at, s.size())));
      return parts;
    }
    size_t end = at;
    while (end < s.size() && !is_space(char_at(s, end).code)) end += char_at(s, end).length;
    parts.push_back(make_text(meter, text.slice(at, end)));
    at = end;
  }
}

}  // namespace

Value split_text(Interpreter& in, const Text& text, const ArgumentValues& args, bool from_right) {
  Meter& meter = in.meter();
  const int64_t most = in.integer_or(args.get(1, "maxsplit"), -1, "the number of splits");
  const size_t limit = most < 0 ? std::numeric_limits<size_t>::max() : static_cast<size_t>(most);
  const Value& by = args.get(0, "sep");
  meter.step(1 + text.size() / 16);
  if (is_undefined(by) || is<None>(by)) {
    if (from_right && most >= 0) meter.unsupported("rsplit() at white space with a limit");
    return make_list(meter, split_at_spaces(meter, text, limit));
  }
  const Text& separator = in.text_argument(by, "the separator");
  if (separator.empty()) meter.corrupt("split() at an empty string");
  meter.walk(separator.size());
  std::vector<size_t> found;
  if (separator.size() <= text.size())
    found = find_all(text.view(), separator.view(), limit, from_right);
  std::vector<Value> parts;
  size_t at = 0;
  for (const size_t next : found) {
    parts.push_back(make_text(meter, text.slice(at, next)));
    at = next + separator.size();
  }
  parts.push_back(make_text(meter, text.slice(at, text.size())));
  return make_list(meter, std::move(parts));
}

Value join_values(Interpreter& in, const Value& separator, const std::vector<Value>& items) {
  const TextPtr between = to_text(in.meter(), separator);
  Text result;
  for (size_t i = 0; i < items.size(); ++i) {
    const TextPtr part = to_text(in.meter(), items[i]);
    const uint64_t added = part->size() + (i > 0 ? between->size() : 0);
    in.meter().walk(added);
    if (result.size() + added > kMaxText) in.meter().make(result.size() + added);
    if (i > 0) result.append(*between);
    result.append(*part);
  }
  return make_text(in.meter(), std::move(result));
}

Value dict_items(Interpreter& in, const Dict& dict) {
  std::vector<Value> pairs;
  for (const auto& [key, value] : dict.entries) {
    pairs.push_back(make_list(in.meter(), {key, value}, true));
  }
  return make_list(in.meter(), std::move(pairs));
}

namespace {

using Args = const ArgumentValues&;

Value cased(Interpreter& in, const Value& v, Case to) {
  in.meter().step(1 + as_text(v)->size() / 16);
  return make_text(in.meter(), change_case(*as_text(v), to));
}

Value stripped(Interpreter& in, const Value& v, Args args, bool left, bool right) {
  const Value& chars = args.get(0, "chars");
  in.meter().step(1 + as_text(v)->size() / 16);
  if (is_undefined(chars) || is<None>(chars)) {
    return make_text(in.meter(), strip(*as_text(v), nullptr, left, right));
  }
  const std::string set(in.text_argument(chars, "the characters to strip").view());
  in.meter().step(1 + set.size() / 16);
  return make_text(in.meter(), strip(*as_text(v), &set, left, right));
}

bool has_affix(Interpreter& in, const Text& text, const Value& affix, bool at_start) {
  if (const auto* list = std::get_if<ListPtr>(&affix)) {
    const auto& items = (*list)->items;
    return std::any_of(items.begin(), items.end(),
                       [&](const Value& item) { return has_affix(in, text, item, at_start); });
  }
  const Text& wanted = in.text_argument(affix, "the beginning or end looked for");
  in.meter().walk(wanted.size());
  return at_start ? text.view().starts_with(wanted.view()) : text.view().ends_with(wanted.view());
}

Value without_affix(Interpreter& in, const Value& v, const Value& affix, bool at_start) {
  const Text& text = *as_text(v);
  const Text& wanted = in.text_argument(affix, "the beginning or end to remove");
  if (!has_affix(in, text, affix, at_start)) return v;
  return make_text(in.meter(), at_start ? text.slice(wanted.size(), text.size())
                                        : text.slice(0, text.size() - wanted.size()));
}

std::vector<size_t> occurrences(Interpreter& in, const Value& v, Args args, size_t limit,
                                bool from_right) {
  const Text &text = *as_text(v),
             &wanted = in.text_argument(args.get(0, "sub"), "what is looked for");
  if (wanted.empty()) in.meter().unsupported("looking for an empty string");
  in.meter().walk(text.size() + wanted.size());
  if (wanted.size() > text.size()) return {};
  return find_all(text.view(), wanted.view(), limit, from_right);
}

Value found_at(Interpreter& in, const Value& v, Args args, bool from_right) {
  const auto found = occurrences(in, v, args, 1, from_right);
  if (found.empty()) return int64_t{-1};
  return static_cast<int64_t>(count_chars(as_text(v)->view().substr(0, found[0])));
}

Value split_lines(Interpreter& in, const Text& text) {
  std::vector<Value> lines;
  const std::string_view s = text.view();
  in.meter().walk(s.size());
  for (size_t at = 0; at < s.size();) {
    const size_t end = std::min(s.find_first_of("\n\r", at), s.size());
    lines.push_back(make_text(in.meter(), text.slice(at, end)));
    at = s.compare(end, 2, "\r\n") == 0 ? end + 2 : end + 1;
  }
  return make_list(in.meter(), std::move(lines));
}

bool all_digits(std::string_view s) {
  return !s.empty() && std::all_of(s.begin(), s.end(), [](char c) { return c >= '0' && c <= '9'; });
}

using Table = std::unordered_map<std::string_view, BuiltinFilter>;

const Table& text_methods() {
  static const Table kTable = {
      {"upper",
       {[](Interpreter& in, const Value& v, Args) { return cased(in, v, Case::kUpper); }, ""}},
      {"lower",
       {[](Interpreter& in, const Value& v, Args) { return cased(in, v, Case::kLower); }, ""}},
      {"title",
       {[](Interpreter& in, const Value& v, Args) { return cased(in, v, Case::kTitle); }, ""}},
      {"capitalize",
       {[](Interpreter& in, const Value& v, Args) { return cased(in, v, Case::kCapitalize); }, ""}},
      {"strip",
       {[](Interpreter& in, const Value& v, Args a) { return stripped(in, v, a, true, true); },
        "chars"}},
      {"lstrip",
       {[](Interpreter& in, const Value& v, Args a) { return stripped(in, v, a, true, false); },
        "chars"}},
      {"rstrip",
       {[](Interpreter& in, const Value& v, Args a) { return stripped(in, v, a, false, true); },
        "chars"}},
      {"split",
       {[](Interpreter& in, const Value& v, Args a) {
          return split_text(in, *as_text(v), a, false);
        },
        "sep maxsplit"}},
      {"rsplit",
       {[](Interpreter& in, const Value& v, Args a) {
          return split_text(in, *as_text(v), a, true);
        },
        "sep maxsplit"}},
      {"splitlines",
       {[](Interpreter& in, const Value& v, Args) { return split_lines(in, *as_text(v)); }, ""}},
      {"startswith",
       {[](Interpreter& in, const Value& v, Args a) -> Value {
          return has_affix(in, *as_text(v), a.get(0, "prefix"), true);
        },
        "prefix"}},
      {"endswith",
       {[](Interpreter& in, const Value& v, Args a) -> Value {
          return has_affix(in, *as_text(v), a.get(0, "suffix"), false);
        },
        "suffix"}},
      {"removeprefix",
       {[](Interpreter& in, const Value& v, Args a) {
          return without_affix(in, v, a.get(0, "prefix"), true);
        },
        "prefix"}},
      {"removesuffix",
       {[](Interpreter& in, const Value& v, Args a) {
          return without_affix(in, v, a.get(0, "suffix"), false);
        },
        "suffix"}},
      {"replace",
       {[](Interpreter& in, const Value& v, Args a) { return replace_text(in, *as_text(v), a); },
        "old new count"}},
      {"find",
       {[](Interpreter& in, const Value& v, Args a) { return found_at(in, v, a, false); }, "sub"}},
      {"rfind",
       {[](Interpreter& in, const Value& v, Args a) { return found_at(in, v, a, true); }, "sub"}},
      {"count",
       {[](Interpreter& in, const Value& v, Args a) -> Value {
          return static_cast<int64_t>(occurrences(in, v, a, as_text(v)->size(), false).size());
        },
        "sub"}},
      {"join",
       {[](Interpreter& in, const Value& v, Args a) {
          return join_values(in, v, elements(in.meter(), a.get(0, "items")));
        },
        "items"}},
      {"isdigit",
       {[](Interpreter& in, const Value& v, Args) -> Value {
          in.meter().walk(as_text(v)->size());
          return all_digits(as_text(v)->view());
        },
        ""}},
  };
  return kTable;
}

const Table& dict_methods() {
  static const Table kTable = {
      {"items",
       {[](Interpreter& in, const Value& v, Args) { return dict_items(in, *std::get<DictPtr>(v)); },
        ""}},
      {"keys",
       {[](Interpreter& in, const Value& v, Args) {
          return make_list(in.meter(), elements(in.meter(), v));
        },
        ""}},
      {"values",
       {[](Interpreter& in, const Value& v, Args) {
          std::vector<Value> values;
          for (const auto& entry : std::get<DictPtr>(v)->entries) values.push_back(entry.second);
          return make_list(in.meter(), std::move(values));
        },
        ""}},
      {"get",
       {[](Interpreter& in, const Value& v, Args a) -> Value {
          const Value* found = find_key(in.meter(), *std::get<DictPtr>(v), a.get(0, "key"));
          if (found != nullptr) return *found;
          const Value& missing = a.get(1, "default");
          return is_undefined(missing) ? Value(None{}) : missing;
        },
        "key default"}},
  };
  return kTable;
}

template <class Map>
const typename Map::mapped_type* lookup(const Map& map, std::string_view name) {
  const auto it = map.find(name);
  return it == map.end() ? nullptr : &it->second;
}

}  // namespace

const BuiltinFilter* find_text_method(std::string_view name) {
  return lookup(text_methods(), name);
}
const BuiltinFilter* find_dict_method(std::string_view name) {
  return lookup(dict_methods(), name);
}

}  // namespace pith::jinja
