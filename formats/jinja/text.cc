#include "formats/jinja/text.h"

#include <utf8proc.h>

#include <algorithm>

namespace pith::jinja {

Origin Text::safe_origin() const {
  return origins_.find(static_cast<char>(Origin::kContent)) == std::string::npos ? Origin::kTemplate
                                                                                 : Origin::kContent;
}

Text Text::slice(size_t from, size_t end) const {
  Text result;
  if (from < end) result.append(*this, from, end - from);
  return result;
}

Char char_at(std::string_view s, size_t at) {
  const auto first = static_cast<unsigned char>(s[at]);
  if (first < 0x80) return {first, 1};
  utf8proc_int32_t code = 0;
  const auto length =
      utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(s.data()) + at,
                       static_cast<utf8proc_ssize_t>(std::min<size_t>(s.size() - at, 4)), &code);
  if (length <= 0) return {static_cast<char32_t>(0x110000 + first), 1};
  return {static_cast<char32_t>(code), static_cast<size_t>(length)};
}

size_t count_chars(std::string_view s) {
  size_t count = 0;
  for (size_t at = 0; at < s.size(); at += char_at(s, at).length) ++count;
  return count;
}

std::vector<uint32_t> char_starts(std::string_view s) {
  std::vector<uint32_t> starts;
  starts.reserve(s.size() + 1);
  size_t at = 0;
  for (; at < s.size(); at += char_at(s, at).length) starts.push_back(static_cast<uint32_t>(at));
  starts.push_back(static_cast<uint32_t>(at));
  return starts;
}

void append_utf8(std::string& out, char32_t code) {
  if (code >= 0x110000) {
    out.push_back(static_cast<char>(code - 0x110000));
    return;
  }
  utf8proc_uint8_t bytes[4];
  const auto length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code), bytes);
  out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
}

bool is_space(char32_t c) {
  return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

namespace {

bool is_cased(char32_t c) {
  if (c >= 0x110000) return false;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL ||
         category == UTF8PROC_CATEGORY_LT;
}

char32_t map_case(char32_t c, bool upper) {
  if (c >= 0x110000) return c;
  const auto code = static_cast<utf8proc_int32_t>(c);
  return static_cast<char32_t>(upper ? utf8proc_toupper(code) : utf8proc_tolower(code));
}

}  // namespace

Text change_case(const Text& text, Case to) {
  const std::string_view s = text.view();
  Text result;
  result.reserve(s.size());
  std::string one;
  bool word_begins = true;
  for (size_t at = 0; at < s.size();) {
    const Char c = char_at(s, at);
    const bool upper = to == Case::kUpper || (to != Case::kLower && word_begins);
    one.clear();
    append_utf8(one, map_case(c.code, upper));
    result.append(one, text.origin(at));
    if (to == Case::kTitle) {
      word_begins = !is_cased(c.code);
    } else if (to == Case::kTitleFilter) {
      word_begins = is_space(c.code) ||
                    (c.code < 0x80 && std::string_view("-({[<").find(static_cast<char>(c.code)) !=
                                          std::string_view::npos);
    } else {
      word_begins = false;
    }
    at += c.length;
  }
  return result;
}

Text strip(const Text& text, const std::string* set, bool left, bool right) {
  const std::string_view s = text.view();
  std::vector<char32_t> codes;
  if (set != nullptr) {
    for (size_t at = 0; at < set->size(); at += char_at(*set, at).length) {
      codes.push_back(char_at(*set, at).code);
    }
    std::sort(codes.begin(), codes.end());
  }
  const auto goes = [&](size_t at) {
    const char32_t code = char_at(s, at).code;
    return set == nullptr ? is_space(code) : std::binary_search(codes.begin(), codes.end(), code);
  };
  size_t from = 0, end = s.size();
  while (left && from < end && goes(from)) from += char_at(s, from).length;
  if (right) {
    const std::vector<uint32_t> starts = char_starts(s);
    for (size_t i = starts.size() - 1; i > 0 && starts[i] > from && goes(starts[i - 1]); --i) {
      end = starts[i - 1];
    }
  }
  return text.slice(from, end);
}

Finder::Finder(std::string_view needle) : needle_(needle), fallback_(needle.size(), 0) {
  uint32_t k = 0;
  for (size_t i = 1; i < needle.size(); ++i) {
    while (k > 0 && needle[i] != needle[k]) k = fallback_[k - 1];
    if (needle[i] == needle[k]) ++k;
    fallback_[i] = k;
  }
}

size_t Finder::find(std::string_view hay, size_t from) const {
  uint32_t k = 0;
  for (size_t i = from; i < hay.size(); ++i) {
    while (k > 0 && hay[i] != needle_[k]) k = fallback_[k - 1];
    if (hay[i] == needle_[k]) ++k;
    if (k == needle_.size()) return i + 1 - k;
  }
  return std::string_view::npos;
}

std::vector<size_t> find_all(std::string_view hay, std::string_view needle, size_t limit,
                             bool from_right) {
  std::vector<size_t> found;
  if (from_right) {
    const std::string mirrored_hay(hay.rbegin(), hay.rend());
    const std::string mirrored_needle(needle.rbegin(), needle.rend());
    found = find_all(mirrored_hay, mirrored_needle, limit);
    for (size_t& at : found) at = hay.size() - at - needle.size();
    std::reverse(found.begin(), found.end());
    return found;
  }
  const Finder finder(needle);
  for (size_t at = 0; found.size() < limit; at += needle.size()) {
    at = finder.find(hay, at);
    if (at == std::string_view::npos) break;
    found.push_back(at);
  }
  return found;
}

}  // namespace pith::jinja
