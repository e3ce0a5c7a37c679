#include "formats/jinja/format.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "formats/jinja/builtins.h"
#include "formats/jinja/print.h"

namespace pith::jinja {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// The format of one value, common to both ways.
struct Spec {
  Text fill = Text(" ", Origin::kTemplate);
  char align = '\0';  // < > ^ =
  char sign = '-';    // + - or space
  bool alternate = false;
  bool zero = false;
  int64_t width = 0;
  char grouping = '\0';
  int64_t precision = -1;
  char type = '\0';
};

// Reads a number at s[at] and moves `at` after it; -1 where there is none.
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

// ---- "%"

class Percent {
 public:
  Percent(Interpreter& in, const Text& format, const Value& values)
      : in_(in), format_(format), s_(format.view()), values_(values) {
    if (is_tuple(values))
      items_ = elements(in.meter(), values);
    else
      items_ = {values};
    out_.set_markup(format.markup());
  }

  Value run() {
    while (at_ < s_.size()) {
      const size_t next = std::min(s_.find('%', at_), s_.size());
      literal(at_, next);
      if (next == s_.size()) break;
      at_ = next + 1;
      field();
    }
    const bool one = !is_tuple(values_);
    if (used_ < items_.size() && !(one && is<DictPtr>(values_)) &&
        !(one && is<ListPtr>(values_) && items_.size() == 1)) {
      meter().corrupt("more values than '%' has places for");
    }
    return make_text(meter(), std::move(out_));
  }

 private:
  Meter& meter() { return in_.meter(); }
  void literal(size_t from, size_t to) {
    grow(to - from);
    out_.append(format_, from, to - from);
  }
  void grow(uint64_t bytes) {
    meter().walk(bytes);
    if (out_.size() + bytes > kMaxText) meter().make(out_.size() + bytes);
  }
  Value next_value() {
    if (key_) return *key_;
    if (used_ == items_.size()) meter().corrupt("fewer values than '%' has places for");
    return items_[used_++];
  }
  int64_t star() {
    const Value v = next_value();
    if (!is_integral(v)) meter().corrupt("'*' in a format wants an integer");
    const int64_t n = to_int(v);
    if (n > static_cast<int64_t>(kMaxText) || n < -static_cast<int64_t>(kMaxText)) {
      meter().make(kMaxText + 1);
    }
    return n;
  }

  void key() {
    key_.reset();
    if (at_ >= s_.size() || s_[at_] != '(') return;
    const size_t begin = at_ + 1;
    int depth = 1;
    for (++at_; at_ < s_.size(); ++at_) {
      if (s_[at_] == '(') ++depth;
      if (s_[at_] == ')' && --depth == 0) break;
    }
    if (at_ == s_.size()) meter().corrupt("a key in a format without its end");
    const auto* dict = std::get_if<DictPtr>(&values_);
    if (dict == nullptr) meter().corrupt("a key in a format of a {}", type_name(values_));
    const Value name = make_text(meter(), format_.slice(begin, at_));
    const Value* found = find_key(meter(), **dict, name);
    if (found == nullptr) meter().corrupt("a key in a format that is not there");
    key_ = *found;
    ++at_;
  }

  void field() {
    key();
    Spec spec;
    bool left = false;
    for (; at_ < s_.size() && std::string_view("#0- +").find(s_[at_]) != std::string_view::npos;
         ++at_) {
      if (s_[at_] == '#') spec.alternate = true;
      if (s_[at_] == '0') spec.zero = true;
      if (s_[at_] == '-') left = true;
      if (s_[at_] == '+') spec.sign = '+';
      if (s_[at_] == ' ' && spec.sign != '+') spec.sign = ' ';
    }
    spec.width = width();
    if (spec.width < 0) {
      left = true;
      spec.width = -spec.width;
    }
    if (at_ < s_.size() && s_[at_] == '.') {
      ++at_;
      spec.precision = std::max<int64_t>(width(), 0);
    }
    while (at_ < s_.size() && std::string_view("hlL").find(s_[at_]) != std::string_view::npos)
      ++at_;
    if (at_ == s_.size()) meter().corrupt("a format that ends after '%'");
    spec.type = s_[at_++];
    if (left) {
      spec.align = '<';
      spec.zero = false;
    }
    value(spec);
  }
  int64_t width() {
    if (at_ < s_.size() && s_[at_] == '*') {
      ++at_;
      return star();
    }
    return std::max<int64_t>(read_count(meter(), s_, at_), 0);
  }

  void value(Spec& spec) {
    grow(static_cast<uint64_t>(spec.width));
    Text piece;
    switch (spec.type) {
      case '%':
        return out_.append("%", Origin::kTemplate);
      case 's':
      case 'r':
      case 'a': {
        const Value v = next_value();
        const TextPtr text = spec.type == 's' ? to_text_like(in_, v, format_.markup())
                                              : to_repr(meter(), v, spec.type == 'a');
        pad(meter(), cut(*text, spec.precision), spec, spec.align == '<' ? '<' : '>', piece);
        break;
      }
      case 'c': {
        const Value v = next_value();
        const Text* text = as_text(v);
        if (text != nullptr ? count_chars(text->view()) != 1 : !is_integral(v)) {
          meter().corrupt("'%c' wants one character");
        }
        pad(meter(), text != nullptr ? *text : character(meter(), to_int(v)), spec,
            spec.align == '<' ? '<' : '>', piece);
        break;
      }
      default:
        number(spec, piece);
    }
    grow(piece.size());
    out_.append(piece);
  }

  void number(Spec& spec, Text& piece) {
    const bool integer = std::string_view("diouxX").find(spec.type) != std::string_view::npos;
    if (!integer && std::string_view("eEfFgG").find(spec.type) == std::string_view::npos) {
      meter().corrupt("the format '%{}'", printable_char(spec.type));
    }
    const Value v = next_value();
    if (!is_number(v)) meter().corrupt("'%{}' of a {}", spec.type, type_name(v));
    if (!integer) return put_double(meter(), to_double(v), spec, piece);
    if (is<double>(v)) {
      const double d = std::get<double>(v);
      if (spec.type == 'o' || spec.type == 'x' || spec.type == 'X' || !(std::fabs(d) < 9.2e18)) {
        meter().corrupt("'%{}' of a float", spec.type);
      }
      return put_integer(meter(), static_cast<int64_t>(d), spec, piece);
    }
    put_integer(meter(), to_int(v), spec, piece);
  }
  static std::string printable_char(char c) { return std::string(1, c); }

  Interpreter& in_;
  const Text& format_;
  const std::string_view s_;
  const Value& values_;
  std::vector<Value> items_;
  size_t used_ = 0, at_ = 0;
  std::optional<Value> key_;
  Text out_;
};

// ---- "{}"

Spec parse_spec(Meter& meter, const Text& text) {
  Spec spec;
  const std::string_view s = text.view();
  size_t at = 0;
  const auto is_align = [&](size_t i) {
    return i < s.size() && std::string_view("<>^=").find(s[i]) != std::string_view::npos;
  };
  const size_t first = s.empty() ? 0 : char_at(s, 0).length;
  if (!s.empty() && is_align(first)) {
    spec.fill = text.slice(0, first);
    spec.align = s[first];
    at = first + 1;
  } else if (is_align(0)) {
    spec.align = s[at++];
  }
  if (at < s.size() && (s[at] == '+' || s[at] == '-' || s[at] == ' ')) spec.sign = s[at++];
  if (at < s.size() && s[at] == '#') spec.alternate = at++ < s.size();
  if (at < s.size() && s[at] == '0') {
    ++at;
    if (spec.align == '\0') spec.zero = true;
  }
  spec.width = std::max<int64_t>(read_count(meter, s, at), 0);
  if (at < s.size() && (s[at] == ',' || s[at] == '_')) spec.grouping = s[at++];
  if (at < s.size() && s[at] == '.') {
    ++at;
    spec.precision = read_count(meter, s, at);
    if (spec.precision < 0) meter.corrupt("a format with a point and no precision");
  }
  if (at < s.size()) spec.type = s[at++];
  if (at < s.size()) meter.corrupt("a format of more parts than one value has");
  return spec;
}

void put_formatted(Interpreter& in, const Value& v, const Text& format, Text& out) {
  Meter& meter = in.meter();
  if (format.empty()) {
    out.append(*to_text(meter, v));
    return;
  }
  Spec spec = parse_spec(meter, format);
  const auto wrong = [&] {
    meter.corrupt("a format that a {} cannot be written in", type_name(v));
  };
  if (const Text* text = as_text(v)) {
    if ((spec.type != '\0' && spec.type != 's') || spec.align == '=' || spec.sign != '-' ||
        spec.alternate || spec.grouping != '\0') {
      wrong();
    }
    if (spec.zero) spec.fill = Text("0", Origin::kTemplate);
    return pad(meter, cut(*text, spec.precision), spec, spec.align == '\0' ? '<' : spec.align, out);
  }
  if (!is_number(v)) wrong();
  const bool floating = std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos;
  if (is<double>(v) || (floating && spec.type != '\0')) {
    if (spec.type != '\0' && spec.type != 'n' && !floating) wrong();
    return put_double(meter, to_double(v), spec, out);
  }
  if (spec.precision >= 0) wrong();
  if (spec.type == 'c') {
    if (spec.sign != '-') wrong();
    const Text one = character(meter, to_int(v));
    return pad(meter, one, spec, spec.align == '\0' ? '<' : spec.align, out);
  }
  if (std::string_view("bdonxX").find(spec.type) == std::string_view::npos && spec.type != '\0') {
    wrong();
  }
  put_integer(meter, to_int(v), spec, out);
}

class Braces {
 public:
  Braces(Interpreter& in, const ArgumentValues& args, const Value* mapping)
      : in_(in), args_(args), mapping_(mapping) {}

  Text run(const Text& format, int depth) {
    if (depth > 2) meter().corrupt("a format in a format in a format");
    const std::string_view s = format.view();
    Text out;
    out.set_markup(format.markup());
    for (size_t at = 0; at < s.size();) {
      const size_t next = std::min(s.find_first_of("{}", at), s.size());
      append(out, format.slice(at, next));
      if (next == s.size()) break;
      if (next + 1 < s.size() && s[next + 1] == s[next]) {
        append(out, format.slice(next, next + 1));
        at = next + 2;
        continue;
      }
      if (s[next] == '}') meter().corrupt("a single '}}' in a format");
      at = field(format, next + 1, out, depth);
    }
    return out;
  }

 private:
  Meter& meter() { return in_.meter(); }
  void append(Text& out, const Text& piece) {
    meter().walk(piece.size());
    if (out.size() + piece.size() > kMaxText) meter().make(out.size() + piece.size());
    out.append(piece);
  }

  // One field from after its bracket on; the position after it.
  size_t field(const Text& format, size_t begin, Text& out, int depth) {
    const std::string_view s = format.view();
    size_t at = begin;
    while (at < s.size() && s[at] != '}' && s[at] != ':' && s[at] != '!') {
      if (s[at] == '{') meter().corrupt("a '{{' in the name of a field of a format");
      if (s[at] == '[') at = std::min(s.find(']', at), s.size() - 1);
      ++at;
    }
    const Text name = format.slice(begin, at);
    char conversion = '\0';
    if (at < s.size() && s[at] == '!') {
      conversion = at + 1 < s.size() ? s[at + 1] : '\0';
      at += 2;
      if (at < s.size() && s[at] != ':' && s[at] != '}')
        meter().corrupt("a conversion of a format");
    }
    Text spec;
    if (at < s.size() && s[at] == ':') {
      const size_t spec_begin = ++at;
      for (int open = 1; at < s.size(); ++at) {
        if (s[at] == '{') ++open;
        if (s[at] == '}' && --open == 0) break;
      }
      spec = format.slice(spec_begin, at);
    }
    if (at >= s.size()) meter().corrupt("a field of a format without its end");
    Value v = lookup(name);
    if (conversion == 's') v = to_text(meter(), v);
    if (conversion == 'r' || conversion == 'a') v = to_repr(meter(), v, conversion == 'a');
    if (conversion != '\0' && std::string_view("sra").find(conversion) == std::string_view::npos) {
      meter().corrupt("a conversion of a format that is not s, r or a");
    }
    if (!spec.empty()) spec = run(spec, depth + 1);
    Text piece;
    put_formatted(in_, v, spec, piece);
    if (format.markup() && !(as_text(v) != nullptr && as_text(v)->markup())) {
      piece = escaped(meter(), piece);
    }
    append(out, piece);
    return at + 1;
  }

  Value lookup(const Text& name) {
    const std::string_view s = name.view();
    size_t at = std::min(s.find_first_of(".["), s.size());
    Value v = first(std::string(s.substr(0, at)));
    while (at < s.size()) {
      meter().step();
      if (s[at] == '.') {
        const size_t end = std::min(s.find_first_of(".[", at + 1), s.size());
        if (end == at + 1) meter().corrupt("an empty name in a format");
        v = in_.attribute(v, std::string(s.substr(at + 1, end - at - 1)));
        at = end;
      } else if (s[at] == '[') {
        const size_t end = s.find(']', at);
        if (end == std::string_view::npos || end == at + 1) {
          meter().corrupt("brackets in a field of a format");
        }
        size_t digits = at + 1;
        const int64_t place = read_count(meter(), s.substr(0, end), digits);
        v = in_.item(v, place >= 0 && digits == end ? Value(place)
                                                    : make_text(meter(), name.slice(at + 1, end)));
        at = end + 1;
      } else {
        meter().corrupt("a name after brackets in a format");
      }
    }
    return v;
  }

  Value first(const std::string& name) {
    size_t at = 0;
    int64_t place = read_count(meter(), name, at);
    if (name.empty() || (place >= 0 && at == name.size())) {
      const bool by_itself = name.empty();
      if (counted_ && *counted_ != by_itself) {
        meter().corrupt("a format with fields that are numbered and fields that are not");
      }
      counted_ = by_itself;
      if (by_itself) place = next_++;
      if (mapping_ != nullptr || static_cast<size_t>(place) >= args_.positional.size()) {
        meter().corrupt("a format with more fields than values");
      }
      return args_.positional[static_cast<size_t>(place)];
    }
    if (mapping_ != nullptr) {
      const auto* dict = std::get_if<DictPtr>(mapping_);
      const Value* found =
          dict != nullptr ? find_key(meter(), **dict, make_text(meter(), name)) : nullptr;
      if (found != nullptr) return *found;
    } else {
      for (const auto& [candidate, value] : args_.named) {
        if (candidate == name) return value;
      }
    }
    meter().corrupt("'{}' in a format is not given", name);
  }

  Interpreter& in_;
  const ArgumentValues& args_;
  const Value* mapping_;
  int64_t next_ = 0;
  std::optional<bool> counted_;
};

}  // namespace

Value format_percent(Interpreter& in, const Text& format, const Value& values) {
  return Percent(in, format, values).run();
}

Value format_braces(Interpreter& in, const Text& format, const ArgumentValues& args,
                    const Value* mapping) {
  return make_text(in.meter(), Braces(in, args, mapping).run(format, 1));
}

}  // namespace pith::jinja
