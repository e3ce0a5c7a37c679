// Helpers of both string methods and filters (builtins.h).

#include <algorithm>
#include <limits>

#include "formats/jinja/builtins.h"
#include "formats/jinja/characters.h"
#include "formats/jinja/print.h"

namespace pith::jinja {

Value cased(Interpreter& in, const Text& text, Case to) {
  in.meter().step(1 + text.size() / 16);
  return make_text(in.meter(), change_case(text, to));
}

Value strip_text(Interpreter& in, const Text& text, const Value& chars, bool left, bool right) {
  in.meter().step(1 + text.size() / 16);
  if (is_undefined(chars) || is<None>(chars)) {
    return make_text(in.meter(), strip(text, nullptr, left, right));
  }
  const std::string set(in.text_argument(chars, "the characters to strip").view());
  in.meter().step(1 + set.size() / 16);
  return make_text(in.meter(), strip(text, &set, left, right));
}

TextPtr to_text_like(Interpreter& in, const Value& v, bool markup) {
  TextPtr text = to_text(in.meter(), v);
  if (!markup || text->markup()) return text;
  return std::make_shared<const Text>(escaped(in.meter(), *text));
}

Value replace_text(Interpreter& in, const Text& text, const ArgumentValues& args) {
  const Text& old = in.text_argument(args.get(0, "old"), "what is replaced");
  const TextPtr fresh = to_text_like(in, args.get(1, "new"), text.markup());
  in.text_argument(args.get(1, "new"), "the replacement");
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
  in.meter().make(text.size() - found.size() * old.size() + found.size() * fresh->size());
  in.meter().step(found.size() / 16);
  Text result;
  result.set_markup(text.markup());
  size_t at = 0;
  for (const size_t next : found) {
    result.append(text, at, next - at);
    result.append(*fresh);
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

std::vector<Value> rsplit_at_spaces(Meter& meter, const Text& text, size_t limit) {
  std::vector<Value> parts;
  const std::string_view s = text.view();
  const std::vector<uint32_t> starts = char_starts(s);
  const auto space = [&](size_t i) { return is_space(char_at(s, starts[i]).code); };
  size_t end = starts.size() - 1;
  while (true) {
    while (end > 0 && space(end - 1)) --end;
    if (end == 0) break;
    size_t begin = end;
    if (parts.size() == limit) {
      begin = 0;
    } else {
      while (begin > 0 && !space(begin - 1)) --begin;
    }
    parts.push_back(make_text(meter, text.slice(starts[begin], starts[end])));
    end = begin;
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

}  // namespace

Value split_text(Interpreter& in, const Text& text, const ArgumentValues& args, bool from_right) {
  Meter& meter = in.meter();
  const int64_t most = in.integer_or(args.get(1, "maxsplit"), -1, "the number of splits");
  const size_t limit = most < 0 ? std::numeric_limits<size_t>::max() : static_cast<size_t>(most);
  const Value& by = args.get(0, "sep");
  meter.step(1 + text.size() / 16);
  if (is<None>(by) || !args.has(0, "sep")) {
    return make_list(meter, from_right ? rsplit_at_spaces(meter, text, limit)
                                       : split_at_spaces(meter, text, limit));
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
  result.set_markup(between->markup());
  for (size_t i = 0; i < items.size(); ++i) {
    const TextPtr part = to_text_like(in, items[i], between->markup());
    const uint64_t added = part->size() + (i > 0 ? between->size() : 0);
    in.meter().walk(added);
    if (result.size() + added > kMaxText) in.meter().make(result.size() + added);
    if (i > 0) result.append(*between);
    result.append(*part);
  }
  return make_text(in.meter(), std::move(result));
}

Value pad_text(Interpreter& in, const Text& text, int64_t width, const Text& fill, int side) {
  in.meter().walk(text.size());
  const auto length = static_cast<int64_t>(count_chars(text.view()));
  const int64_t missing = width > length ? width - length : 0;
  if (missing > static_cast<int64_t>(kMaxText)) in.meter().make(kMaxText + 1);
  in.meter().make(text.size() + static_cast<uint64_t>(missing) * fill.size());
  // str.center puts the odd one to the left where the width is odd.
  const int64_t left = side < 0 ? missing : side > 0 ? 0 : missing / 2 + (missing & width & 1);
  Text result;
  result.set_markup(text.markup());
  for (int64_t i = 0; i < left; ++i) result.append(fill);
  result.append(text);
  for (int64_t i = left; i < missing; ++i) result.append(fill);
  return make_text(in.meter(), std::move(result));
}

bool is_lower(std::string_view s) {
  bool any = false;
  for (size_t at = 0; at < s.size(); at += char_at(s, at).length) {
    const char32_t c = char_at(s, at).code;
    if (!is_cased(c)) continue;
    if (!is_lower_case(c)) return false;
    any = true;
  }
  return any;
}

bool is_upper(std::string_view s) {
  bool any = false;
  for (size_t at = 0; at < s.size(); at += char_at(s, at).length) {
    const char32_t c = char_at(s, at).code;
    if (!is_cased(c)) continue;
    if (!is_upper_case(c)) return false;
    any = true;
  }
  return any;
}

}  // namespace pith::jinja
