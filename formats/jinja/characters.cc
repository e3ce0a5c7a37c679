#include "formats/jinja/characters.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>

namespace pith::jinja {
namespace {

utf8proc_category_t category(char32_t c) {
  return c >= 0x110000 ? UTF8PROC_CATEGORY_CN : utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

}  // namespace

bool is_lower_case(char32_t c) { return category(c) == UTF8PROC_CATEGORY_LL; }
bool is_upper_case(char32_t c) { return category(c) == UTF8PROC_CATEGORY_LU; }

bool is_cased(char32_t c) {
  const auto k = category(c);
  return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT;
}

bool is_printable(char32_t c) {
  if (c == ' ') return true;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

bool is_letter(char32_t c) {
  const auto k = category(c);
  return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool is_decimal(char32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; }

bool is_digit_like(char32_t c) {
  static constexpr struct {
    char32_t first, last;
  } kRanges[] = {{0xb2, 0xb3},       {0xb9, 0xb9},       {0x1369, 0x1371},   {0x19da, 0x19da},
                 {0x2070, 0x2070},   {0x2074, 0x2079},   {0x2080, 0x2089},   {0x2460, 0x2468},
                 {0x2474, 0x247c},   {0x2488, 0x2490},   {0x24ea, 0x24ea},   {0x24f5, 0x24fd},
                 {0x24ff, 0x24ff},   {0x2776, 0x277e},   {0x2780, 0x2788},   {0x278a, 0x2792},
                 {0x10a40, 0x10a43}, {0x10e60, 0x10e68}, {0x11052, 0x1105a}, {0x1f100, 0x1f10a}};
  return is_decimal(c) || std::any_of(std::begin(kRanges), std::end(kRanges),
                                      [&](const auto& r) { return c >= r.first && c <= r.last; });
}

bool is_numeric_like(char32_t c) {
  const auto k = category(c);
  static constexpr char32_t kHan[] = {0x3007, 0x4e00, 0x4e03, 0x4e07, 0x4e09, 0x4e24, 0x4e5d,
                                      0x4e8c, 0x4e94, 0x4ebf, 0x516b, 0x516d, 0x5146, 0x5341,
                                      0x5343, 0x56db, 0x767e, 0x842c, 0x5104, 0x96f6};
  return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO ||
         std::find(std::begin(kHan), std::end(kHan), c) != std::end(kHan);
}

bool is_alphanumeric(char32_t c) { return is_letter(c) || is_digit_like(c) || is_numeric_like(c); }
bool is_word_char(char32_t c) { return c == '_' || is_alphanumeric(c); }

}  // namespace pith::jinja
