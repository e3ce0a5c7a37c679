// The methods of strings, as Python's str has them.

#include <algorithm>
#include <limits>

#include "formats/jinja/builtins.h"
#include "formats/jinja/characters.h"
#include "formats/jinja/format.h"
#include "formats/jinja/print.h"

namespace pith::jinja {

namespace {

using Args = const ArgumentValues&;

template <Case kTo>
Value cased_method(Interpreter& in, const Value& v, Args) {
  return cased(in, *as_text(v), kTo);
}

template <bool kLeft, bool kRight>
Value stripped(Interpreter& in, const Value& v, Args args) {
  return strip_text(in, *as_text(v), args.get(0, "chars"), kLeft, kRight);
}

// The bytes that the arguments `start` and `end`, which count characters, leave of the text.
struct Part {
  size_t from, to;
};
Part part_of(Interpreter& in, const Text& text, Args args) {
  if (args.positional.size() < 2) return {0, text.size()};
  in.meter().step(1 + text.size() / 16);
  const auto starts = char_starts(text.view());
  const auto n = static_cast<int64_t>(starts.size()) - 1;
  const auto bound = [&](int64_t i) { return std::clamp<int64_t>(i < 0 ? i + n : i, 0, n); };
  const int64_t start = in.integer_or(args.get(1, "start"), 0, "the start");
  const int64_t end = in.integer_or(args.get(2, "end"), n, "the end");
  if (start > n) return {1, 0};
  const auto from = static_cast<size_t>(bound(start)), to = static_cast<size_t>(bound(end));
  if (from > to) return {1, 0};
  return {starts[from], starts[to]};
}

bool has_affix(Interpreter& in, std::string_view text, const Value& affix, bool at_start) {
  if (is_tuple(affix)) {
    const auto& items = std::get<ListPtr>(affix)->items;
    return std::any_of(items.begin(), items.end(), [&](const Value& item) {
      in.text_argument(item, "the beginning or end looked for");
      return has_affix(in, text, item, at_start);
    });
  }
  const Text& wanted = in.text_argument(affix, "the beginning or end looked for");
  in.meter().walk(wanted.size());
  return at_start ? text.starts_with(wanted.view()) : text.ends_with(wanted.view());
}

template <bool kStart>
Value has_affix_method(Interpreter& in, const Value& v, Args args) {
  const Part part = part_of(in, *as_text(v), args);
  const Value& affix = args.get(0, "prefix");
  if (part.from > part.to) return has_affix(in, "", affix, kStart) && false;
  return has_affix(in, as_text(v)->view().substr(part.from, part.to - part.from), affix, kStart);
}

template <bool kStart>
Value without_affix(Interpreter& in, const Value& v, Args args) {
  const Text& text = *as_text(v);
  const Text& wanted = in.text_argument(args.get(0, "affix"), "the beginning or end to remove");
  if (!has_affix(in, text.view(), args.get(0, "affix"), kStart)) return v;
  return make_text(in.meter(), kStart ? text.slice(wanted.size(), text.size())
                                      : text.slice(0, text.size() - wanted.size()));
}

std::vector<size_t> occurrences(Interpreter& in, const Value& v, Args args, size_t limit,
                                bool from_right) {
  const Text& text = *as_text(v);
  const Text& wanted = in.text_argument(args.get(0, "sub"), "what is looked for");
  const Part part = part_of(in, text, args);
  if (part.from > part.to) return {};
  const std::string_view s = text.view().substr(part.from, part.to - part.from);
  in.meter().step(1 + (s.size() + wanted.size()) / 16);
  std::vector<size_t> found;
  if (wanted.empty()) {
    for (const uint32_t at : char_starts(s)) found.push_back(at);
    if (from_right) std::reverse(found.begin(), found.end());
    if (found.size() > limit) found.resize(limit);
  } else if (wanted.size() <= s.size()) {
    found = find_all(s, wanted.view(), limit, from_right);
  }
  for (size_t& at : found) at += part.from;
  return found;
}

template <bool kFromRight, bool kMustBe>
Value found_at(Interpreter& in, const Value& v, Args args) {
  const auto found = occurrences(in, v, args, 1, kFromRight);
  if (!found.empty()) {
    return static_cast<int64_t>(count_chars(as_text(v)->view().substr(0, found[0])));
  }
  if (kMustBe) in.meter().corrupt("index() of something that is not there");
  return int64_t{-1};
}

Value count(Interpreter& in, const Value& v, Args args) {
  return static_cast<int64_t>(occurrences(in, v, args, as_text(v)->size() + 1, false).size());
}

template <bool kFromRight>
Value partition(Interpreter& in, const Value& v, Args args) {
  const Text& text = *as_text(v);
  const Text& separator = in.text_argument(args.get(0, "sep"), "the separator");
  if (separator.empty()) in.meter().corrupt("partition() at an empty string");
  const auto found = occurrences(in, v, args, 1, kFromRight);
  Text parts[3];
  if (!found.empty()) {
    parts[0] = text.slice(0, found[0]);
    parts[1] = text.slice(found[0], found[0] + separator.size());
    parts[2] = text.slice(found[0] + separator.size(), text.size());
  } else {
    parts[kFromRight ? 2 : 0] = text;
  }
  std::vector<Value> values;
  for (Text& part : parts) values.push_back(make_text(in.meter(), std::move(part)));
  return make_list(in.meter(), std::move(values), ListKind::kTuple);
}

Value lines(Interpreter& in, const Value& v, Args args) {
  std::vector<Value> values;
  in.meter().step(1 + as_text(v)->size() / 16);
  for (Text& line : split_lines(*as_text(v), in.flag_or(args.get(0, "keepends"), false))) {
    values.push_back(make_text(in.meter(), std::move(line)));
  }
  return make_list(in.meter(), std::move(values));
}

template <int kSide>
Value padded(Interpreter& in, const Value& v, Args args) {
  static const Text kSpace(" ", Origin::kTemplate);
  const Value& fill = args.get(1, "fillchar");
  const Text& with = args.has(1, "fillchar") ? in.text_argument(fill, "the character") : kSpace;
  if (count_chars(with.view()) != 1) in.meter().corrupt("text is filled with one character");
  if (!is_integral(args.get(0, "width"))) in.meter().corrupt("a width that is no integer");
  return pad_text(in, *as_text(v), to_int(args.get(0, "width")), with, kSide);
}

Value zfill(Interpreter& in, const Value& v, Args args) {
  static const Text kZero("0", Origin::kTemplate);
  const Text& text = *as_text(v);
  if (!is_integral(args.get(0, "width"))) in.meter().corrupt("a width that is no integer");
  const int64_t width = to_int(args.get(0, "width"));
  if (text.empty() || (text.view()[0] != '-' && text.view()[0] != '+')) {
    return pad_text(in, text, width, kZero, -1);
  }
  const Value rest = pad_text(in, text.slice(1, text.size()), width > 0 ? width - 1 : 0, kZero, -1);
  Text result = text.slice(0, 1);
  result.append(*as_text(rest));
  return make_text(in.meter(), std::move(result));
}

Value expand_tabs(Interpreter& in, const Value& v, Args args) {
  const Text& text = *as_text(v);
  const int64_t size =
      std::max<int64_t>(in.integer_or(args.get(0, "tabsize"), 8, "the size of a tab"), 0);
  if (size > static_cast<int64_t>(kMaxText)) in.meter().make(kMaxText + 1);
  in.meter().step(1 + text.size() / 16);
  Text result;
  result.set_markup(text.markup());
  int64_t column = 0;
  for (size_t at = 0; at < text.size();) {
    const Char c = char_at(text.view(), at);
    if (c.code == '\t') {
      const int64_t spaces = size > 0 ? size - column % size : 0;
      in.meter().walk(static_cast<uint64_t>(spaces));
      if (result.size() + static_cast<uint64_t>(spaces) > kMaxText) in.meter().make(kMaxText + 1);
      result.append(std::string(static_cast<size_t>(spaces), ' '), text.origin(at));
      column += spaces;
    } else {
      result.append(text, at, c.length);
      column = c.code == '\n' || c.code == '\r' ? 0 : column + 1;
    }
    at += c.length;
  }
  return make_text(in.meter(), std::move(result));
}

// str.maketrans of two or three strings or of a dict: a dict from code points.
Value make_translation(Interpreter& in, const Value&, Args args) {
  std::vector<std::pair<Value, Value>> entries;
  const auto code = [](const Text& text, size_t at) {
    return Value(static_cast<int64_t>(char_at(text.view(), at).code));
  };
  if (args.positional.size() == 1) {
    const auto* dict = std::get_if<DictPtr>(&args.positional[0]);
    if (dict == nullptr) in.meter().corrupt("maketrans() of one thing that is no dict");
    for (const auto& [key, value] : (*dict)->entries) {
      const Text* text = as_text(key);
      if (text != nullptr && count_chars(text->view()) != 1) {
        in.meter().corrupt("maketrans() of a key of more than one character");
      }
      entries.emplace_back(text != nullptr ? code(*text, 0) : key, value);
    }
    return make_dict(in.meter(), std::move(entries));
  }
  const Text& from = in.text_argument(args.get(0, "x"), "what is translated");
  const Text& to = in.text_argument(args.get(1, "y"), "what it is translated to");
  const auto from_starts = char_starts(from.view()), to_starts = char_starts(to.view());
  if (from_starts.size() != to_starts.size()) {
    in.meter().corrupt("maketrans() of strings of different lengths");
  }
  // Python's table has numbers here; texts know whose they are.
  for (size_t i = 0; i + 1 < from_starts.size(); ++i) {
    entries.emplace_back(code(from, from_starts[i]),
                         make_text(in.meter(), to.slice(to_starts[i], to_starts[i + 1])));
  }
  if (args.positional.size() > 2) {
    const Text& gone = in.text_argument(args.get(2, "z"), "what is left out");
    for (size_t at = 0; at < gone.size(); at += char_at(gone.view(), at).length) {
      entries.emplace_back(code(gone, at), None{});
    }
  }
  return make_dict(in.meter(), std::move(entries));
}

Value translate(Interpreter& in, const Value& v, Args args) {
  const Text& text = *as_text(v);
  const auto* table = std::get_if<DictPtr>(&args.get(0, "table"));
  if (table == nullptr) in.meter().corrupt("translate() wants a dict");
  Text result;
  result.set_markup(text.markup());
  for (size_t at = 0; at < text.size();) {
    const Char c = char_at(text.view(), at);
    const Value* to = find_key(in.meter(), **table, static_cast<int64_t>(c.code));
    if (to == nullptr) {
      result.append(text, at, c.length);
    } else if (const Text* fresh = as_text(*to)) {
      in.meter().walk(fresh->size());
      result.append(*fresh);
    } else if (is_integral(*to)) {
      // A character by its number is content where any of the text is.
      if (to_int(*to) < 0 || to_int(*to) > 0x10ffff || (to_int(*to) >> 11) == 0x1b) {
        in.meter().corrupt("translate() to no character");
      }
      std::string bytes;
      append_utf8(bytes, static_cast<char32_t>(to_int(*to)));
      result.append(bytes, Origin::kContent);
    } else if (!is<None>(*to)) {
      in.meter().corrupt("translate() to a {}", type_name(*to));
    }
    if (result.size() > kMaxText) in.meter().make(result.size());
    at += c.length;
  }
  return make_text(in.meter(), std::move(result));
}

// ---- what all characters are

template <bool (*kHolds)(char32_t), bool kEmpty>
Value all_are(Interpreter& in, const Value& v, Args) {
  const std::string_view s = as_text(v)->view();
  in.meter().step(1 + s.size() / 16);
  if (s.empty()) return kEmpty;
  for (size_t at = 0; at < s.size(); at += char_at(s, at).length) {
    if (!kHolds(char_at(s, at).code)) return false;
  }
  return true;
}

bool is_ascii(char32_t c) { return c < 0x80; }

Value is_identifier(Interpreter& in, const Value& v, Args) {
  const std::string_view s = as_text(v)->view();
  in.meter().step(1 + s.size() / 16);
  bool first = true;
  for (size_t at = 0; at < s.size(); at += char_at(s, at).length) {
    const char32_t c = char_at(s, at).code;
    if (!is_letter(c) && c != '_' && (first || !is_decimal(c))) return false;
    first = false;
  }
  return !first;
}

Value is_title(Interpreter& in, const Value& v, Args) {
  const std::string_view s = as_text(v)->view();
  in.meter().step(1 + s.size() / 16);
  bool inside = false, any = false;
  for (size_t at = 0; at < s.size(); at += char_at(s, at).length) {
    const char32_t c = char_at(s, at).code;
    const bool cased_char = is_cased(c);
    if (cased_char && is_lower_case(c) != inside) return false;
    any |= cased_char;
    inside = cased_char;
  }
  return any;
}

template <bool (*kHolds)(std::string_view)>
Value whole_is(Interpreter& in, const Value& v, Args) {
  in.meter().step(1 + as_text(v)->size() / 16);
  return kHolds(as_text(v)->view());
}

}  // namespace

const FilterTable& text_methods() {
  static const FilterTable kTable = {
      {"upper", {cased_method<Case::kUpper>, ""}},
      {"lower", {cased_method<Case::kLower>, ""}},
      {"casefold", {cased_method<Case::kFold>, ""}},
      {"swapcase", {cased_method<Case::kSwap>, ""}},
      {"title", {cased_method<Case::kTitle>, ""}},
      {"capitalize", {cased_method<Case::kCapitalize>, ""}},
      {"strip", {stripped<true, true>, "/ chars"}},
      {"lstrip", {stripped<true, false>, "/ chars"}},
      {"rstrip", {stripped<false, true>, "/ chars"}},
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
      {"splitlines", {lines, "keepends"}},
      {"partition", {partition<false>, "/ sep"}},
      {"rpartition", {partition<true>, "/ sep"}},
      {"startswith", {has_affix_method<true>, "/ prefix start end"}},
      {"endswith", {has_affix_method<false>, "/ suffix start end"}},
      {"removeprefix", {without_affix<true>, "/ affix"}},
      {"removesuffix", {without_affix<false>, "/ affix"}},
      {"replace",
       {[](Interpreter& in, const Value& v, Args a) { return replace_text(in, *as_text(v), a); },
        "/ old new count"}},
      {"find", {found_at<false, false>, "/ sub start end"}},
      {"rfind", {found_at<true, false>, "/ sub start end"}},
      {"index", {found_at<false, true>, "/ sub start end"}},
      {"rindex", {found_at<true, true>, "/ sub start end"}},
      {"count", {count, "/ sub start end"}},
      {"join",
       {[](Interpreter& in, const Value& v, Args a) {
          std::vector<Value> items = elements(in.meter(), a.get(0, "items"));
          for (const Value& item : items) in.text_argument(item, "what is joined");
          return join_values(in, v, items);
        },
        "/ items"}},
      {"center", {padded<0>, "/ width fillchar"}},
      {"ljust", {padded<1>, "/ width fillchar"}},
      {"rjust", {padded<-1>, "/ width fillchar"}},
      {"zfill", {zfill, "/ width"}},
      {"expandtabs", {expand_tabs, "tabsize"}},
      {"maketrans", {make_translation, "/ x y z"}},
      {"translate", {translate, "/ table"}},
      {"format",
       {[](Interpreter& in, const Value& v, Args a) { return format_braces(in, *as_text(v), a); },
        "*"}},
      {"format_map",
       {[](Interpreter& in, const Value& v, Args a) {
          return format_braces(in, *as_text(v), {}, &a.get(0, "mapping"));
        },
        "/ mapping"}},
      {"isalpha", {all_are<is_letter, false>, ""}},
      {"isalnum", {all_are<is_alphanumeric, false>, ""}},
      {"isdecimal", {all_are<is_decimal, false>, ""}},
      {"isdigit", {all_are<is_digit_like, false>, ""}},
      {"isnumeric", {all_are<is_numeric_like, false>, ""}},
      {"isspace", {all_are<is_space, false>, ""}},
      {"isprintable", {all_are<is_printable, true>, ""}},
      {"isascii", {all_are<is_ascii, true>, ""}},
      {"isidentifier", {is_identifier, ""}},
      {"islower", {whole_is<is_lower>, ""}},
      {"isupper", {whole_is<is_upper>, ""}},
      {"istitle", {is_title, ""}},
  };
  return kTable;
}

}  // namespace pith::jinja
