// The filters of numbers.

#include <charconv>
#include <cmath>
#include <limits>

#include "formats/jinja/builtins.h"
#include "formats/jinja/characters.h"
#include "formats/jinja/operators.h"
#include "formats/jinja/print.h"

namespace pith::jinja {
namespace {

using Args = const ArgumentValues&;

// Removes underscores between digits, and writes the digits of all scripts as 0 to 9; returns ""
// where an underscore stands elsewhere.
std::string plain_digits(std::string_view given) {
  std::string s;
  for (size_t at = 0; at < given.size(); at += char_at(given, at).length) {
    const Char c = char_at(given, at);
    if (c.code >= 0x80 && is_decimal(c.code)) {
      s.push_back(static_cast<char>('0' + decimal_value(c.code)));
    } else {
      s += given.substr(at, c.length);
    }
  }
  std::string result;
  const auto digit = [&](size_t i) {
    return i < s.size() && ((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'z') ||
                            (s[i] >= 'A' && s[i] <= 'Z'));
  };
  for (size_t i = 0; i < s.size(); ++i) {
    if (s[i] != '_') {
      result.push_back(s[i]);
    } else if (i == 0 || !digit(i - 1) || !digit(i + 1)) {
      return "";
    }
  }
  return result;
}

// Python's int(text, base).
bool read_integer(std::string_view given, int64_t base, int64_t& n) {
  std::string s = plain_digits(given);
  bool negative = false;
  size_t at = 0;
  if (!s.empty() && (s[0] == '+' || s[0] == '-')) negative = s[at++] == '-';
  const char mark = at + 1 < s.size() && s[at] == '0' ? static_cast<char>(s[at + 1] | 0x20) : '\0';
  const int64_t marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
  if (marked != 0 && (base == marked || base == 0)) {
    at += 2;
    base = marked;
  }
  if (base == 0) base = 10;
  uint64_t magnitude = 0;
  const char *from = s.data() + at, *end = s.data() + s.size();
  const auto parsed = std::from_chars(from, end, magnitude, static_cast<int>(base));
  if (from == end || parsed.ec != std::errc() || parsed.ptr != end) return false;
  if (magnitude > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) + (negative ? 1 : 0))
    return false;
  n = static_cast<int64_t>(negative ? 0 - magnitude : magnitude);
  return true;
}

// Python's float(text).
bool read_double(std::string_view given, double& d) {
  std::string s = plain_digits(given);
  size_t at = !s.empty() && s[0] == '+' ? 1 : 0;
  if (at == 1 && s.size() > 1 && s[1] == '-') return false;
  if (s.find('(') != std::string::npos) return false;
  const char *from = s.data() + at, *end = s.data() + s.size();
  const auto parsed = std::from_chars(from, end, d);
  if (from == end || parsed.ptr != end) return false;
  if (parsed.ec == std::errc::result_out_of_range) {
    const bool huge = s.find("e-") == std::string::npos && s.find("E-") == std::string::npos;
    d = huge ? std::numeric_limits<double>::infinity() : 0.0;
    if (s[0] == '-') d = -d;
    return true;
  }
  return parsed.ec == std::errc();
}

[[noreturn]] void undefined_number(Interpreter& in, const Value& v) {
  const auto* name = std::get<Undefined>(v).name;
  in.meter().corrupt("'{}' is undefined, and no number", name != nullptr ? *name : "a value");
}

Value truncated(Interpreter& in, const Value& missing, double d) {
  constexpr double kLimit = 9223372036854775808.0;
  if (!std::isfinite(d)) return missing;
  if (!(d >= -kLimit && d < kLimit)) in.meter().corrupt("an integer of more than 64 bits");
  return static_cast<int64_t>(d);
}

Value to_integer(Interpreter& in, const Value& v, Args args) {
  const Value missing = args.has(0, "default") ? args.get(0, "default") : Value(int64_t{0});
  const int64_t base = in.integer_or(args.get(1, "base"), 10, "the base");
  if (base != 0 && (base < 2 || base > 36)) return missing;
  if (is_undefined(v)) undefined_number(in, v);
  if (const auto* d = std::get_if<double>(&v)) {
    if (std::isinf(*d)) in.meter().corrupt("an infinite number as an integer");
    return truncated(in, missing, *d);
  }
  if (is_integral(v)) return to_int(v);
  const Text* text = as_text(v);
  if (text == nullptr) return missing;
  in.meter().step(1 + text->size() / 16);
  const Text digits = strip(*text, nullptr, true, true);
  int64_t n = 0;
  if (read_integer(digits.view(), base, n)) return n;
  double d = 0;
  return read_double(digits.view(), d) ? truncated(in, missing, d) : missing;
}

Value to_float(Interpreter& in, const Value& v, Args args) {
  if (is_undefined(v)) undefined_number(in, v);
  if (is_number(v)) return to_double(v);
  if (const Text* text = as_text(v)) {
    in.meter().step(1 + text->size() / 16);
    double d = 0;
    if (read_double(strip(*text, nullptr, true, true).view(), d)) return d;
  }
  return args.has(0, "default") ? args.get(0, "default") : Value(0.0);
}

Value absolute(Interpreter& in, const Value& v, Args) {
  if (!is_number(v)) in.meter().corrupt("abs of a {}", type_name(v));
  if (const auto* d = std::get_if<double>(&v)) return std::fabs(*d);
  return to_int(v) < 0 ? negate(in.meter(), v) : Value(to_int(v));
}

// Python's round(): the decimal number that is nearest to the exact value of the double.
double rounded(double d, int64_t places) {
  if (!std::isfinite(d) || places > 330) return d;
  if (places < 0) {
    if (places < -310) return std::copysign(0.0, d);
    const double scale = std::pow(10.0, static_cast<double>(-places));
    return std::nearbyint(d / scale) * scale;
  }
  const std::string text = fmt::format("{:.{}f}", d, static_cast<int>(places));
  double result = d;
  std::from_chars(text.data(), text.data() + text.size(), result);
  return result;
}

Value round_number(Interpreter& in, const Value& v, Args args) {
  if (!is_number(v)) in.meter().corrupt("round of a {}", type_name(v));
  const int64_t places = in.integer_or(args.get(0, "precision"), 0, "the precision");
  const Value& method = args.get(1, "method");
  const std::string how(is_undefined(method) ? "common"
                                             : in.text_argument(method, "the method").view());
  if (how != "common" && how != "ceil" && how != "floor") {
    in.meter().corrupt("round with a method that is not common, ceil or floor");
  }
  if (how == "common") {
    if (const auto* d = std::get_if<double>(&v)) return rounded(*d, places);
    if (places >= 0) return to_int(v);
    const double near = rounded(static_cast<double>(to_int(v)), places);
    return truncated(in, int64_t{0}, near);
  }
  const double scale = std::pow(10.0, static_cast<double>(places));
  const double x = to_double(v) * scale;
  if (!std::isfinite(x) || scale == 0.0) in.meter().corrupt("round of a number that is too large");
  return (how == "ceil" ? std::ceil(x) : std::floor(x)) / scale;
}

Value file_size(Interpreter& in, const Value& v, Args args) {
  double bytes = 0;
  const Text* text = as_text(v);
  if (is_number(v)) {
    bytes = to_double(v);
  } else if (text == nullptr || !read_double(strip(*text, nullptr, true, true).view(), bytes)) {
    in.meter().corrupt("filesizeformat of something that is no number");
  }
  const bool binary = in.flag_or(args.get(0, "binary"), false);
  const double base = binary ? 1024 : 1000;
  if (bytes == 1.0) return make_text(in.meter(), "1 Byte");
  if (bytes < base) {
    if (!(bytes > -9e18)) in.meter().corrupt("filesizeformat of an infinite number");
    return make_text(in.meter(), fmt::format("{} Bytes", static_cast<int64_t>(bytes)));
  }
  double unit = base;
  for (const char prefix : std::string_view(binary ? "KMGTPEZY" : "kMGTPEZY")) {
    unit *= base;
    if (bytes < unit || prefix == 'Y') {
      return make_text(
          in.meter(), fmt::format("{:.1f} {}{}", base * bytes / unit, prefix, binary ? "iB" : "B"));
    }
  }
  return Undefined{};
}

}  // namespace

const FilterTable& number_filters() {
  static const FilterTable kTable = {
      {"int", {to_integer, "default base"}},
      {"float", {to_float, "default"}},
      {"abs", {absolute, "/ x"}},
      {"round", {round_number, "precision method"}},
      {"filesizeformat", {file_size, "binary"}},
  };
  return kTable;
}

}  // namespace pith::jinja
