#include "formats/jinja/text.h"

#include <utf8proc.h>

#include <algorithm>

#include "formats/jinja/characters.h"

namespace pith::jinja {

Origin Text::safe_origin() const {
  return origins_.find(static_cast<char>(Origin::kContent)) == std::string::npos ? Origin::kTemplate
                                                                                 : Origin::kContent;
}

Text Text::slice(size_t from, size_t end) const {
  Text result;
  if (from < end) result.append(*this, from, end - from);
  result.markup_ = markup_;
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

utf8proc_category_t category(char32_t c) {
  return c >= 0x110000 ? UTF8PROC_CATEGORY_CN : utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

// The characters whose upper case is more than one character (SpecialCasing.txt of Unicode, without
// those that depend on the language): ligatures, letters with marks, Greek.
struct Expansion {
  char32_t code;
  char32_t upper[3], title[3];
};
constexpr Expansion kExpansions[] = {
    {0xdf, {'S', 'S'}, {'S', 's'}},
    {0x149, {0x2bc, 'N'}, {0x2bc, 'N'}},
    {0x1f0, {'J', 0x30c}, {'J', 0x30c}},
    {0x390, {0x399, 0x308, 0x301}, {0x399, 0x308, 0x301}},
    {0x3b0, {0x3a5, 0x308, 0x301}, {0x3a5, 0x308, 0x301}},
    {0x587, {0x535, 0x552}, {0x535, 0x582}},
    {0x1e96, {'H', 0x331}, {'H', 0x331}},
    {0x1e97, {'T', 0x308}, {'T', 0x308}},
    {0x1e98, {'W', 0x30a}, {'W', 0x30a}},
    {0x1e99, {'Y', 0x30a}, {'Y', 0x30a}},
    {0x1e9a, {'A', 0x2be}, {'A', 0x2be}},
    {0xfb00, {'F', 'F'}, {'F', 'f'}},
    {0xfb01, {'F', 'I'}, {'F', 'i'}},
    {0xfb02, {'F', 'L'}, {'F', 'l'}},
    {0xfb03, {'F', 'F', 'I'}, {'F', 'f', 'i'}},
    {0xfb04, {'F', 'F', 'L'}, {'F', 'f', 'l'}},
    {0xfb05, {'S', 'T'}, {'S', 't'}},
    {0xfb06, {'S', 'T'}, {'S', 't'}},
    {0x1f50, {0x3a5, 0x313}, {0x3a5, 0x313}},
    {0x1f52, {0x3a5, 0x313, 0x300}, {0x3a5, 0x313, 0x300}},
    {0x1f54, {0x3a5, 0x313, 0x301}, {0x3a5, 0x313, 0x301}},
    {0x1f56, {0x3a5, 0x313, 0x342}, {0x3a5, 0x313, 0x342}},
    {0x1fb2, {0x1fba, 0x399}, {0x1fba, 0x345}},
    {0x1fb3, {0x391, 0x399}, {0x1fbc}},
    {0x1fb4, {0x386, 0x399}, {0x386, 0x345}},
    {0x1fb6, {0x391, 0x342}, {0x391, 0x342}},
    {0x1fb7, {0x391, 0x342, 0x399}, {0x391, 0x342, 0x345}},
    {0x1fbc, {0x391, 0x399}, {0x1fbc}},
    {0x1fc2, {0x1fca, 0x399}, {0x1fca, 0x345}},
    {0x1fc3, {0x397, 0x399}, {0x1fcc}},
    {0x1fc4, {0x389, 0x399}, {0x389, 0x345}},
    {0x1fc6, {0x397, 0x342}, {0x397, 0x342}},
    {0x1fc7, {0x397, 0x342, 0x399}, {0x397, 0x342, 0x345}},
    {0x1fcc, {0x397, 0x399}, {0x1fcc}},
    {0x1fd2, {0x399, 0x308, 0x300}, {0x399, 0x308, 0x300}},
    {0x1fd3, {0x399, 0x308, 0x301}, {0x399, 0x308, 0x301}},
    {0x1fd6, {0x399, 0x342}, {0x399, 0x342}},
    {0x1fd7, {0x399, 0x308, 0x342}, {0x399, 0x308, 0x342}},
    {0x1fe2, {0x3a5, 0x308, 0x300}, {0x3a5, 0x308, 0x300}},
    {0x1fe3, {0x3a5, 0x308, 0x301}, {0x3a5, 0x308, 0x301}},
    {0x1fe4, {0x3a1, 0x313}, {0x3a1, 0x313}},
    {0x1fe6, {0x3a5, 0x342}, {0x3a5, 0x342}},
    {0x1fe7, {0x3a5, 0x308, 0x342}, {0x3a5, 0x308, 0x342}},
    {0x1ff2, {0x1ffa, 0x399}, {0x1ffa, 0x345}},
    {0x1ff3, {0x3a9, 0x399}, {0x1ffc}},
    {0x1ff4, {0x38f, 0x399}, {0x38f, 0x345}},
    {0x1ff6, {0x3a9, 0x342}, {0x3a9, 0x342}},
    {0x1ff7, {0x3a9, 0x342, 0x399}, {0x3a9, 0x342, 0x345}},
    {0x1ffc, {0x3a9, 0x399}, {0x1ffc}},
    {0xfb13, {0x544, 0x546}, {0x544, 0x576}},
    {0xfb14, {0x544, 0x535}, {0x544, 0x565}},
    {0xfb15, {0x544, 0x53b}, {0x544, 0x56b}},
    {0xfb16, {0x54e, 0x546}, {0x54e, 0x576}},
    {0xfb17, {0x544, 0x53d}, {0x544, 0x56d}},
};

// Greek vowels with a breathing and an iota below or beside them: the capital without the iota, or
// 0.
char32_t capital_before_iota(char32_t c) {
  static constexpr char32_t kFirst[] = {0x1f08, 0x1f28, 0x1f68};
  return c >= 0x1f80 && c <= 0x1faf ? kFirst[(c - 0x1f80) / 16] + c % 8 : 0;
}

void append_cased(std::string& out, char32_t c, Case to) {
  if (c >= 0x110000) return append_utf8(out, c);
  const auto code = static_cast<utf8proc_int32_t>(c);
  if (to == Case::kLower && c == 0x130) return void(out += "i\xcc\x87");
  if (to == Case::kFold) {
    utf8proc_int32_t folded[8];
    int boundary = 0;
    const auto n = utf8proc_decompose_char(code, folded, 8, UTF8PROC_CASEFOLD, &boundary);
    for (utf8proc_ssize_t i = 0; i < std::min<utf8proc_ssize_t>(n, 8); ++i) {
      append_utf8(out, static_cast<char32_t>(folded[i]));
    }
    return;
  }
  if (to == Case::kLower) return append_utf8(out, static_cast<char32_t>(utf8proc_tolower(code)));
  if (const char32_t capital = capital_before_iota(c); capital != 0 && to == Case::kUpper) {
    append_utf8(out, capital);
    return append_utf8(out, 0x399);
  }
  const auto* special = std::find_if(std::begin(kExpansions), std::end(kExpansions),
                                     [&](const Expansion& e) { return e.code == c; });
  if (special != std::end(kExpansions)) {
    for (const char32_t part : to == Case::kUpper ? special->upper : special->title) {
      if (part != 0) append_utf8(out, part);
    }
    return;
  }
  append_utf8(out, static_cast<char32_t>(to == Case::kUpper ? utf8proc_toupper(code)
                                                            : utf8proc_totitle(code)));
}

// Whether a sigma that ends at `end` and began at `at` stands at the end of a word.
bool is_final_sigma(std::string_view s, size_t at, size_t end) {
  const auto ignored = [](char32_t c) {
    const auto k = category(c);
    return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_ME || k == UTF8PROC_CATEGORY_CF ||
           k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_SK || c == '\'' || c == '.' ||
           c == ':' || c == 0xb7 || c == 0x2019;
  };
  // Looks at most 64 bytes around, so that the case of a long text stays linear.
  size_t before = at;
  bool cased_before = false;
  for (int i = 0; i < 16 && before > 0 && !cased_before; ++i) {
    do --before;
    while (before > 0 && (static_cast<unsigned char>(s[before]) & 0xc0) == 0x80);
    const char32_t c = char_at(s, before).code;
    cased_before = is_cased(c);
    if (!cased_before && !ignored(c)) break;
  }
  if (!cased_before) return false;
  for (int i = 0; i < 16 && end < s.size(); ++i) {
    const Char c = char_at(s, end);
    if (is_cased(c.code)) return false;
    if (!ignored(c.code)) break;
    end += c.length;
  }
  return true;
}

}  // namespace

Text change_case(const Text& text, Case to) {
  const std::string_view s = text.view();
  Text result;
  result.set_markup(text.markup());
  result.reserve(s.size());
  std::string one;
  bool word_begins = true;
  for (size_t at = 0; at < s.size();) {
    const Char c = char_at(s, at);
    Case mine = Case::kLower;
    if (to == Case::kUpper || to == Case::kFold) mine = to;
    if (to == Case::kSwap) {
      if (!is_lower_case(c.code) && !is_upper_case(c.code)) {  // title case stays
        result.append(s.substr(at, c.length), text.origin(at));
        at += c.length;
        continue;
      }
      mine = is_lower_case(c.code) ? Case::kUpper : Case::kLower;
    }
    if ((to == Case::kCapitalize || to == Case::kTitle) && word_begins) mine = Case::kTitle;
    if (to == Case::kTitleFilter && word_begins) mine = Case::kUpper;
    one.clear();
    if (mine == Case::kLower && c.code == 0x3a3 && is_final_sigma(s, at, at + c.length)) {
      append_utf8(one, 0x3c2);
    } else {
      append_cased(one, c.code, mine);
    }
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

std::vector<Text> split_lines(const Text& text, bool keep_ends) {
  std::vector<Text> lines;
  const std::string_view s = text.view();
  size_t begin = 0;
  for (size_t at = 0; at < s.size();) {
    const Char c = char_at(s, at);
    const size_t line_end = at;
    at += c.length;
    const bool ends = (c.code >= 10 && c.code <= 13) || (c.code >= 28 && c.code <= 30) ||
                      c.code == 0x85 || c.code == 0x2028 || c.code == 0x2029;
    if (!ends) continue;
    if (c.code == '\r' && at < s.size() && s[at] == '\n') ++at;
    lines.push_back(text.slice(begin, keep_ends ? at : line_end));
    begin = at;
  }
  if (begin < s.size()) lines.push_back(text.slice(begin, s.size()));
  return lines;
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
