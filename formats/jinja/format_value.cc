#include "formats/jinja/format_value.h"

#include <algorithm>
#include <cmath>

#include "formats/jinja/print.h"

namespace pith::jinja {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string digits_of(uint64_t n, unsigned base, bool upper) {
  const char* const digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string result;
  do {
    result.push_back(digits[n % base]);
    n /= base;
  } while (n > 0);
  std::reverse(result.begin(), result.end());
  return result;
}

std::string grouped(const std::string& digits, char mark, size_t every) {
  if (mark == '\0') return digits;
  const size_t whole = std::min(digits.find_first_not_of("0123456789abcdefABCDEF"), digits.size());
  std::string result;
  for (size_t i = 0; i < whole; ++i) {
    if (i > 0 && (whole - i) % every == 0) result.push_back(mark);
    result.push_back(digits[i]);
  }
  return result + digits.substr(whole);
}

// The sign, the prefix and the digits of a number in its field.
void put_number(Meter& meter, bool negative, const std::string& prefix, std::string digits,
                const Spec& spec, size_t group, Text& out) {
  std::string sign = negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
  sign += prefix;
  const bool inside = spec.align == '=' || (spec.align == '\0' && spec.zero);
  if (inside && spec.grouping != '\0' && spec.width > 0) {
    meter.unsupported("a number with separators that is filled after its sign");
  }
  digits = grouped(digits, spec.grouping, group);
  if (!inside) {
    const Text body(sign + digits, Origin::kTemplate);
    return pad(meter, body, spec, spec.align == '\0' ? '>' : spec.align, out);
  }
  out.append(sign, Origin::kTemplate);
  Spec rest = spec;
  rest.width = spec.width - static_cast<int64_t>(sign.size());
  if (spec.zero) rest.fill = Text("0", Origin::kTemplate);
  pad(meter, Text(digits, Origin::kTemplate), rest, '>', out);
}

std::string fixed(Meter& meter, char type, double d, int64_t precision, bool alternate) {
  meter.make(static_cast<uint64_t>(precision) + 400);
  const int p = static_cast<int>(precision);
  const char lower = static_cast<char>(type | 0x20);
  std::string text;
  if (lower == 'f') text = alternate ? fmt::format("{:#.{}f}", d, p) : fmt::format("{:.{}f}", d, p);
  if (lower == 'e') text = alternate ? fmt::format("{:#.{}e}", d, p) : fmt::format("{:.{}e}", d, p);
  if (lower == 'g') text = alternate ? fmt::format("{:#.{}g}", d, p) : fmt::format("{:.{}g}", d, p);
  if (type != lower) {
    for (char& c : text) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  }
  return text;
}

// format(d, ".3"): as 'g', but with a digit after the point, and e from one digit earlier on.
std::string general(Meter& meter, double d, int64_t precision) {
  precision = std::max<int64_t>(precision, 1);
  const std::string scientific = fixed(meter, 'e', d, precision - 1, false);
  const size_t e = scientific.find('e');
  const int64_t exponent = e == std::string::npos ? 0 : std::stol(scientific.substr(e + 1));
  std::string mantissa = scientific.substr(0, e);
  if (exponent < -4 || exponent >= precision - 1) {
    if (d == 0.0) return "0.0";
    if (mantissa.find('.') != std::string::npos) {
      while (mantissa.back() == '0') mantissa.pop_back();
      if (mantissa.back() == '.') mantissa.pop_back();
    }
    return mantissa + scientific.substr(e);
  }
  std::string text = fixed(meter, 'g', d, precision, false);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

}  // namespace

int64_t read_count(Meter& meter, std::string_view s, size_t& at) {
  if (at >= s.size() || !is_digit(s[at])) return -1;
  int64_t n = 0;
  for (; at < s.size() && is_digit(s[at]); ++at) {
    n = n * 10 + (s[at] - '0');
    if (n > static_cast<int64_t>(kMaxText)) meter.make(kMaxText + 1);
  }
  return n;
}

void pad(Meter& meter, const Text& body, const Spec& spec, char align, Text& out) {
  const auto length = static_cast<int64_t>(count_chars(body.view()));
  const int64_t missing = std::max<int64_t>(spec.width - length, 0);
  meter.make(body.size() + static_cast<uint64_t>(missing) * spec.fill.size());
  const int64_t left = align == '>' ? missing : align == '^' ? missing / 2 : 0;
  for (int64_t i = 0; i < left; ++i) out.append(spec.fill);
  out.append(body);
  for (int64_t i = left; i < missing; ++i) out.append(spec.fill);
}

void put_double(Meter& meter, double d, Spec spec, Text& out) {
  const bool negative = std::signbit(d) && !std::isnan(d);
  const double magnitude = std::fabs(d);
  std::string digits;
  if (!std::isfinite(d)) {
    digits = std::isnan(d) ? "nan" : "inf";
    if (spec.type >= 'A' && spec.type <= 'Z') digits = std::isnan(d) ? "NAN" : "INF";
    if (spec.type == '%') digits += '%';
    spec.grouping = '\0';
  } else if (spec.type == '\0') {
    digits =
        spec.precision < 0 ? print_double(magnitude) : general(meter, magnitude, spec.precision);
  } else if (spec.type == '%') {
    digits = fixed(meter, 'f', magnitude * 100, spec.precision < 0 ? 6 : spec.precision,
                   spec.alternate) +
             "%";
  } else {
    const char type = spec.type == 'n' ? 'g' : spec.type;
    int64_t precision = spec.precision < 0 ? 6 : spec.precision;
    if ((type | 0x20) == 'g') precision = std::max<int64_t>(precision, 1);
    digits = fixed(meter, type, magnitude, precision, spec.alternate);
  }
  put_number(meter, negative, "", digits, spec, 3, out);
}

void put_integer(Meter& meter, int64_t n, const Spec& spec, Text& out) {
  const uint64_t magnitude = n < 0 ? 0 - static_cast<uint64_t>(n) : static_cast<uint64_t>(n);
  const unsigned base = spec.type == 'b'                       ? 2
                        : spec.type == 'o'                     ? 8
                        : spec.type == 'x' || spec.type == 'X' ? 16
                                                               : 10;
  const std::string prefix =
      spec.alternate && base != 10 ? std::string("0") + spec.type : std::string();
  std::string digits = digits_of(magnitude, base, spec.type == 'X');
  if (spec.precision > static_cast<int64_t>(digits.size())) {  // of % only
    meter.make(static_cast<uint64_t>(spec.precision));
    digits.insert(0, static_cast<size_t>(spec.precision) - digits.size(), '0');
  }
  put_number(meter, n < 0, prefix, digits, spec, base == 10 ? 3 : 4, out);
}

Text character(Meter& meter, int64_t code) {
  if (code < 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
    meter.corrupt("{} is the number of no character", code);
  }
  std::string bytes;
  append_utf8(bytes, static_cast<char32_t>(code));
  return Text(bytes, Origin::kContent);
}

Text cut(const Text& text, int64_t chars) {
  if (chars < 0 || static_cast<size_t>(chars) >= text.size()) return text;
  size_t at = 0;
  for (; chars > 0 && at < text.size(); --chars) at += char_at(text.view(), at).length;
  return text.slice(0, at);
}

}  // namespace pith::jinja
