#include "core/utf8.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "core/error.h"

namespace pith {
namespace {

utf8proc_category_t category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

bool is_continuation(char b) { return (static_cast<unsigned char>(b) & 0xc0u) == 0x80u; }

// Length of the valid sequence at the front of text; 0 where there is none, and then `invalid` is
// the length of the part that one U+FFFD stands for.
size_t sequence_length(std::string_view text, size_t& invalid) {
  const auto lead = static_cast<unsigned char>(text[0]);
  invalid = 1;
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  const size_t length = utf8_length(text[0]);
  for (size_t i = 1; i < length; ++i) {
    if (i >= text.size() || !is_continuation(text[i])) return 0;
    if (i == 1) {  // no overlong forms, no surrogates, nothing above U+10FFFF
      const auto second = static_cast<unsigned char>(text[1]);
      if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) ||
          (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f)) {
        return 0;
      }
    }
    invalid = i + 1;
  }
  return length;
}

int combining_class(int32_t c) { return c < 0x300 ? 0 : utf8proc_get_property(c)->combining_class; }

}  // namespace

char32_t next_code_point(std::string_view text, size_t& at) {
  const size_t length = std::min(utf8_length(text[at]), text.size() - at);
  const auto lead = static_cast<unsigned char>(text[at]);
  char32_t c = length == 1 ? lead : lead & (0x7fu >> length);
  for (size_t i = 1; i < length; ++i)
    c = (c << 6) | (static_cast<unsigned char>(text[at + i]) & 0x3fu);
  at += length;
  return c;
}

void append_utf8(std::string& to, char32_t c) {
  const auto put = [&](char32_t byte) {
    to.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
  };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xc0 | (c >> 6));
    put(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    put(0xe0 | (c >> 12));
    put(0x80 | ((c >> 6) & 0x3f));
    put(0x80 | (c & 0x3f));
  } else {
    put(0xf0 | (c >> 18));
    put(0x80 | ((c >> 12) & 0x3f));
    put(0x80 | ((c >> 6) & 0x3f));
    put(0x80 | (c & 0x3f));
  }
}

size_t valid_utf8_prefix(std::string_view text) {
  size_t at = 0, invalid = 0;
  while (at < text.size()) {
    const size_t length = sequence_length(text.substr(at), invalid);
    if (length == 0) break;
    at += length;
  }
  return at;
}

bool is_incomplete_utf8(std::string_view text) {
  if (text.empty() || text.size() >= utf8_length(text[0])) return false;
  size_t invalid = 0;
  return sequence_length(text, invalid) == 0 && invalid == text.size() &&
         static_cast<unsigned char>(text[0]) >= 0xc2 && static_cast<unsigned char>(text[0]) <= 0xf4;
}

std::string valid_utf8_or_replaced(std::string_view text, bool keep_tail) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const size_t good = valid_utf8_prefix(text);
    out.append(text.substr(0, good));
    text.remove_prefix(good);
    if (text.empty()) break;
    if (keep_tail && is_incomplete_utf8(text)) {
      out.append(text);
      break;
    }
    size_t invalid = 0;
    sequence_length(text, invalid);
    out.append("\xef\xbf\xbd");
    text.remove_prefix(invalid);
  }
  return out;
}

bool is_white_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
  if (c == 0x85) return true;
  const auto k = category(c);
  return k == UTF8PROC_CATEGORY_ZS || k == UTF8PROC_CATEGORY_ZL || k == UTF8PROC_CATEGORY_ZP;
}
bool is_numeric(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  const auto k = category(c);
  return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}
bool is_punctuation(char32_t c) {
  if (c < 0x80)
    return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
           (c >= 123 && c <= 126);
  const auto k = category(c);
  return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO;
}
bool is_mark(char32_t c) {
  const auto k = category(c);
  return k >= UTF8PROC_CATEGORY_MN && k <= UTF8PROC_CATEGORY_ME;
}
bool is_nonspacing_mark(char32_t c) { return category(c) == UTF8PROC_CATEGORY_MN; }
bool is_control_or_format(char32_t c) {
  const auto k = category(c);
  return k == UTF8PROC_CATEGORY_CC || k == UTF8PROC_CATEGORY_CF || k == UTF8PROC_CATEGORY_CO;
}
bool is_word(char32_t c) {
  const auto k = category(c);
  return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO) || is_mark(c) ||
         k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_PC ||
         c == 0x200c || c == 0x200d;
}

void append_lower(std::string& to, char32_t c) {
  if (c == 0x130) {  // the one character whose lower case is two
    to += "i\xcc\x87";
  } else {
    append_utf8(to, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
  }
}

// utf8proc's own mapping sorts marks in quadratic time, so decomposition and ordering are done here
// and only the composition is left to it.
std::string normal_form(std::string_view text, NormalForm form, FunctionRef<void(size_t)> made) {
  if (std::all_of(text.begin(), text.end(),
                  [](char b) { return static_cast<unsigned char>(b) < 0x80; })) {
    return std::string(text);
  }
  const bool compose = form == NormalForm::kNfc || form == NormalForm::kNfkc;
  const bool compatible = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                                      (compatible ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> points;
  points.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const auto c = static_cast<utf8proc_int32_t>(next_code_point(text, at));
    utf8proc_int32_t parts[32];  // the longest decomposition is 18 characters
    int boundary = 0;
    const auto n = utf8proc_decompose_char(c, parts, 32, options, &boundary);
    if (n < 0 || n > 32) fail(ErrorKind::kCorrupt, "text: cannot normalize U+{:04X}", c);
    points.insert(points.end(), parts, parts + n);
    if (points.size() % 4096 < static_cast<size_t>(n)) made(points.size());
  }
  for (size_t i = 0; i < points.size();) {
    size_t end = i;
    while (end < points.size() && combining_class(points[end]) != 0) ++end;
    if (end - i > 1) {
      std::stable_sort(
          points.begin() + static_cast<ptrdiff_t>(i), points.begin() + static_cast<ptrdiff_t>(end),
          [](int32_t a, int32_t b) { return combining_class(a) < combining_class(b); });
    }
    i = end + 1;
  }
  if (compose) {
    const auto n = utf8proc_normalize_utf32(
        points.data(), static_cast<utf8proc_ssize_t>(points.size()),
        static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    if (n < 0) fail(ErrorKind::kCorrupt, "text: cannot compose");
    points.resize(static_cast<size_t>(n));
  }
  std::string out;
  out.reserve(text.size());
  for (const auto c : points) append_utf8(out, static_cast<char32_t>(c));
  return out;
}

size_t grapheme_end(std::string_view text, size_t at) {
  utf8proc_int32_t state = 0;
  auto previous = static_cast<utf8proc_int32_t>(next_code_point(text, at));
  while (at < text.size()) {
    size_t next = at;
    const auto c = static_cast<utf8proc_int32_t>(next_code_point(text, next));
    if (utf8proc_grapheme_break_stateful(previous, c, &state)) break;
    previous = c;
    at = next;
  }
  return at;
}

}  // namespace pith
