// The filters of text, and the lookup of all.

#include <algorithm>
#include <limits>

#include "formats/jinja/builtins.h"
#include "formats/jinja/characters.h"
#include "formats/jinja/format.h"
#include "formats/jinja/operators.h"
#include "formats/jinja/print.h"
#include "formats/jinja/wrap.h"

namespace pith::jinja {
namespace {

using Args = const ArgumentValues&;

template <Case kTo>
Value cased_filter(Interpreter& in, const Value& v, Args) {
  TextPtr text = to_text(in.meter(), v);
  if (kTo == Case::kTitleFilter && text->markup()) {  // made of pieces, which are no markup
    Text plain = *text;
    plain.set_markup(false);
    text = std::make_shared<const Text>(std::move(plain));
  }
  return cased(in, *text, kTo);
}

Value trim(Interpreter& in, const Value& v, Args args) {
  return strip_text(in, *to_text(in.meter(), v), args.get(0, "chars"), true, true);
}

Value replace(Interpreter& in, const Value& v, Args args) {
  ArgumentValues texts;
  texts.positional = {to_text(in.meter(), args.get(0, "old")),
                      to_text(in.meter(), args.get(1, "new"))};
  if (!args.has(0, "old") || !args.has(1, "new")) {
    in.meter().corrupt("'replace' wants what to replace and what by");
  }
  const Value& count = args.get(2, "count");
  texts.positional.push_back(count);
  TextPtr text = to_text(in.meter(), v);
  // With autoescape, a markup argument makes the whole result markup, and the text is escaped.
  if (in.autoescape()) {
    if ((as_text(texts.positional[0])->markup() || as_text(texts.positional[1])->markup()) &&
        !text->markup()) {
      text = std::make_shared<const Text>(escaped(in.meter(), *text));
    }
  } else if (text->markup()) {
    Text plain = *text;
    plain.set_markup(false);
    text = std::make_shared<const Text>(std::move(plain));
  }
  return replace_text(in, *text, texts);
}

Value indent(Interpreter& in, const Value& v, Args args) {
  const Text& text = in.text_argument(v, "what is indented");
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
  Text ended = text;
  ended.append("\n", Origin::kTemplate);
  in.meter().step(1 + ended.size() / 16);
  const std::vector<Text> lines = split_lines(ended);
  in.meter().make(ended.size() + lines.size() * margin.size());
  Text result;
  result.set_markup(text.markup());
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) result.append("\n", Origin::kTemplate);
    if (i == 0 ? first : (blank || !lines[i].empty())) result.append(margin);
    result.append(lines[i]);
  }
  return make_text(in.meter(), std::move(result));
}

Value tojson(Interpreter& in, const Value& v, Args args) {
  JsonStyle style;
  const auto marked = [&](const Text& text) {
    in.meter().make(text.size());
    if (text.safe_origin() == Origin::kContent) style.origin = Origin::kContent;
    return std::string(text.view());
  };
  const Value& indent = args.get(1, "indent");
  if (const Text* text = as_text(indent)) {
    style.indent = marked(*text);
  } else if (!is_undefined(indent) && !is<None>(indent)) {
    const int64_t width = std::max<int64_t>(in.integer_or(indent, 0, "the indentation"), 0);
    in.meter().make(static_cast<uint64_t>(width));
    style.indent = std::string(static_cast<size_t>(width), ' ');
  }
  if (style.indent) style.item_separator = ",";
  style.ensure_ascii = in.flag_or(args.get(0, "ensure_ascii"), false);
  style.sort_keys = in.flag_or(args.get(3, "sort_keys"), false);
  const Value& separators = args.get(2, "separators");
  if (!is_undefined(separators) && !is<None>(separators)) {
    const auto pair = elements(in.meter(), separators);
    if (pair.size() != 2) in.meter().corrupt("tojson wants two separators");
    style.item_separator = marked(in.text_argument(pair[0], "a separator"));
    style.key_separator = marked(in.text_argument(pair[1], "a separator"));
  }
  return to_json(in.meter(), v, style);
}

Value center(Interpreter& in, const Value& v, Args args) {
  static const Text kSpace(" ", Origin::kTemplate);
  return pad_text(in, *to_text(in.meter(), v), in.integer_or(args.get(0, "width"), 80, "the width"),
                  kSpace, 0);
}

Value truncate(Interpreter& in, const Value& v, Args args) {
  Meter& meter = in.meter();
  const int64_t length = in.integer_or(args.get(0, "length"), 255, "the length");
  const bool kill_words = in.flag_or(args.get(1, "killwords"), false);
  static const Text kDots("...", Origin::kTemplate);
  const Text& end = args.has(2, "end") ? in.text_argument(args.get(2, "end"), "the end") : kDots;
  const int64_t leeway = in.integer_or(args.get(3, "leeway"), 5, "the leeway");
  meter.step(1 + end.size() / 16);
  const auto end_length = static_cast<int64_t>(count_chars(end.view()));
  if (length < end_length || leeway < 0) meter.corrupt("truncate to less than its end");
  const auto fits = [&](int64_t n) { return n <= length || n - length <= leeway; };
  if (as_text(v) == nullptr && fits(jinja::length(meter, v))) return v;
  const Text& text = in.text_argument(v, "what is truncated");
  meter.step(1 + text.size() / 16);
  const std::vector<uint32_t> starts = char_starts(text.view());
  const auto chars = static_cast<int64_t>(starts.size()) - 1;
  if (fits(chars)) return v;
  Text result = text.slice(0, starts[static_cast<size_t>(length - end_length)]);
  if (!kill_words) {
    const size_t space = result.view().rfind(' ');
    if (space != std::string_view::npos) result = result.slice(0, space);
  }
  return concatenate(meter, result, end);
}

Value word_count(Interpreter& in, const Value& v, Args) {
  const TextPtr text = to_text(in.meter(), v);
  in.meter().step(1 + text->size() / 16);
  int64_t words = 0;
  bool inside = false;
  for (size_t at = 0; at < text->size();) {
    const Char c = char_at(text->view(), at);
    words += !inside && is_word_char(c.code) ? 1 : 0;
    inside = is_word_char(c.code);
    at += c.length;
  }
  return words;
}

Value word_wrap(Interpreter& in, const Value& v, Args args) {
  static const Text kNewline("\n", Origin::kTemplate);
  const Text& text = in.text_argument(v, "what is wrapped");
  Wrapping how;
  how.width = in.integer_or(args.get(0, "width"), 79, "the width");
  how.break_long_words = in.flag_or(args.get(1, "break_long_words"), true);
  how.break_on_hyphens = in.flag_or(args.get(3, "break_on_hyphens"), true);
  const Value& given = args.get(2, "wrapstring");
  const Text& newline =
      is_undefined(given) || is<None>(given) ? kNewline : in.text_argument(given, "the line end");
  if (how.width <= 0) in.meter().corrupt("text wrapped to a width of {}", how.width);
  in.meter().step(1 + text.size() / 4);
  Text result;
  bool first = true;
  for (const Text& paragraph : split_lines(text)) {
    const std::vector<Text> lines = wrap(paragraph, how);
    for (size_t i = 0; i < std::max<size_t>(lines.size(), 1); ++i) {
      if (!first) {
        in.meter().walk(newline.size());
        if (result.size() + newline.size() > kMaxText) in.meter().make(kMaxText + 1);
        result.append(newline);
      }
      first = false;
      if (i < lines.size()) result.append(lines[i]);
    }
  }
  return make_text(in.meter(), std::move(result));
}

Value format(Interpreter& in, const Value& v, Args args) {
  if (!args.positional.empty() && !args.named.empty()) {
    in.meter().corrupt("'format' with values by place and by name");
  }
  const TextPtr text = to_text(in.meter(), v);
  if (args.named.empty()) {
    return format_percent(in, *text, make_list(in.meter(), args.positional, ListKind::kTuple));
  }
  std::vector<std::pair<Value, Value>> entries;
  for (const auto& [name, value] : args.named) {
    entries.emplace_back(make_text(in.meter(), name), value);
  }
  return format_percent(in, *text, make_dict(in.meter(), std::move(entries)));
}

Value pretty(Interpreter& in, const Value& v, Args) {
  const TextPtr text = to_repr(in.meter(), v);
  // Python's pprint breaks lines beyond 80 columns, which is refused, and sorts the keys.
  if (count_chars(text->view()) > 80) in.meter().unsupported("pprint of more than a line");
  if (const auto* dict = std::get_if<DictPtr>(&v); dict != nullptr && (*dict)->entries.size() > 1) {
    std::vector<std::pair<Value, Value>> entries = (*dict)->entries;
    std::stable_sort(entries.begin(), entries.end(), [&](const auto& a, const auto& b) {
      return compare(in.meter(), a.first, b.first) < 0;
    });
    return to_repr(in.meter(), make_dict(in.meter(), std::move(entries)));
  }
  return text;
}

Value string_of(Interpreter& in, const Value& v, Args) { return to_text(in.meter(), v); }

Value refused(Interpreter& in, const Value&, Args) {
  in.meter().unsupported("the filter 'random': a prompt should be the same each time");
}

}  // namespace

const FilterTable& text_filters() {
  static const FilterTable kTable = {
      {"trim", {trim, "chars"}},
      {"upper", {cased_filter<Case::kUpper>, ""}},
      {"lower", {cased_filter<Case::kLower>, ""}},
      {"title", {cased_filter<Case::kTitleFilter>, ""}},
      {"capitalize", {cased_filter<Case::kCapitalize>, ""}},
      {"replace", {replace, "old new count"}},
      {"string", {string_of, ""}},
      {"indent", {indent, "width first blank"}},
      {"tojson", {tojson, "ensure_ascii indent separators sort_keys"}},
      {"center", {center, "width"}},
      {"truncate", {truncate, "length killwords end leeway"}},
      {"wordcount", {word_count, ""}},
      {"wordwrap", {word_wrap, "width break_long_words wrapstring break_on_hyphens"}},
      {"format", {format, "*"}},
      {"pprint", {pretty, ""}},
      {"random", {refused, ""}},
  };
  return kTable;
}

const BuiltinFilter* find_filter(std::string_view name) {
  for (const FilterTable* table :
       {&text_filters(), &number_filters(), &sequence_filters(), &html_filters()}) {
    if (const BuiltinFilter* found = find_in(*table, name)) return found;
  }
  return nullptr;
}

}  // namespace pith::jinja
