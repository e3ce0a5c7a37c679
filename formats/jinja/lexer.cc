#include "formats/jinja/lexer.h"

#include <algorithm>
#include <charconv>

#include "core/utf8.h"
#include "formats/jinja/meter.h"
#include "formats/jinja/text.h"

namespace pith::jinja {
namespace {

constexpr size_t kNone = std::string::npos;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
// Names may hold letters of any script; bytes beyond ASCII are not told apart.
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
bool is_ascii_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

std::string with_plain_line_ends(std::string_view source) {
  std::string result;
  result.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      result.push_back(source[i]);
    } else {
      result.push_back('\n');
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
  }
  if (!result.empty() && result.back() == '\n') result.pop_back();
  return result;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(with_plain_line_ends(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) {
      const size_t open = next_tag();
      data(open);
      if (open == kNone) break;
      const char kind = source_[open + 1];
      move_to(open + 2 + (sign_after(open) != 0 ? 1 : 0));
      if (kind == '#') {
        comment();
      } else if (const size_t end = kind == '%' ? raw_begin() : kNone; end != kNone) {
        raw(end);
      } else {
        inside(kind);
      }
      line_starting_ = source_[at_ - 1] == '\n';
    }
    add(Token::kEnd, "");
    return std::move(tokens_);
  }

 private:
  size_t next_tag() const {
    for (size_t i = source_.find('{', at_); i != kNone && i + 1 < source_.size();
         i = source_.find('{', i + 1)) {
      const char next = source_[i + 1];
      if (next == '{' || next == '%' || next == '#') return i;
    }
    return kNone;
  }
  char sign_after(size_t open) const {
    const char c = open + 2 < source_.size() ? source_[open + 2] : '\0';
    return c == '-' || c == '+' ? c : '\0';
  }

  void data(size_t open) {
    Text text(std::string_view(source_).substr(at_, open == kNone ? kNone : open - at_),
              Origin::kTemplate);
    size_t end = text.size();
    if (open != kNone && sign_after(open) == '-') {
      end = strip(text, nullptr, false, true).size();
    } else if (open != kNone && sign_after(open) == '\0' && source_[open + 1] != '{') {
      const size_t newline = text.view().rfind('\n');
      const size_t line = newline == kNone ? 0 : newline + 1;
      const Text last = text.slice(line, end);
      if ((line > 0 || line_starting_) && strip(last, nullptr, true, false).empty()) end = line;
    }
    if (end > 0) add(Token::kData, text.view().substr(0, end));
    move_to(open == kNone ? source_.size() : open);
  }

  // The end of the tag `{% raw %}` whose inside begins here; kNone for other tags.
  size_t raw_begin() const { return tag_named("raw", at_); }

  // The end of the rest of a tag that holds only this name.
  size_t tag_named(std::string_view name, size_t at) const {
    while (at < source_.size() && is_ascii_space(source_[at])) ++at;
    if (source_.compare(at, name.size(), name) != 0) return kNone;
    at += name.size();
    while (at < source_.size() && is_ascii_space(source_[at])) ++at;
    if (at < source_.size() && (source_[at] == '-' || source_[at] == '+')) ++at;
    return source_.compare(at, 2, "%}") == 0 ? at + 2 : kNone;
  }

  // Text up to {% endraw %} as it is; the signs of both tags work on it as on other text.
  void raw(size_t begin) {
    const char first = source_[begin - 3];
    move_to(begin);
    after_tag(first, false);
    line_starting_ = source_[at_ - 1] == '\n';
    for (size_t i = source_.find("{%", at_); i != kNone; i = source_.find("{%", i + 1)) {
      const size_t inside = i + 2 + (sign_after(i) != 0 ? 1 : 0);
      const size_t end = tag_named("endraw", inside);
      if (end == kNone) continue;
      data(i);
      move_to(end);
      return after_tag(source_[end - 3], true);
    }
    corrupt("'raw' without its 'endraw'");
  }

  void comment() {
    const size_t close = source_.find("#}", at_);
    if (close == kNone) corrupt("a comment without its end");
    const char sign = close > at_ ? source_[close - 1] : '\0';
    move_to(close + 2);
    after_tag(sign, true);
  }

  // What follows a tag: all white space after a minus, one line end after a block.
  void after_tag(char sign, bool block) {
    if (sign == '-') {
      while (at_ < source_.size()) {
        const Char c = char_at(source_, at_);
        if (!is_space(c.code)) break;
        move_to(at_ + c.length);
      }
    } else if (sign != '+' && block && at_ < source_.size() && source_[at_] == '\n') {
      move_to(at_ + 1);
    }
  }

  void inside(char kind) {
    const bool block = kind == '%';
    add(block ? Token::kBlockBegin : Token::kPrintBegin, "");
    const int begin = line_;
    const std::string close = block ? "%}" : "}}";
    std::string open_brackets;
    while (true) {
      while (at_ < source_.size() && is_ascii_space(source_[at_])) move_to(at_ + 1);
      if (at_ >= source_.size()) {
        line_ = begin;
        corrupt("a tag without its end");
      }
      const char c = source_[at_];
      const size_t sign = c == '-' || (block && c == '+') ? 1 : 0;
      if (open_brackets.empty() && source_.compare(at_ + sign, 2, close) == 0) {
        add(block ? Token::kBlockEnd : Token::kPrintEnd, "");
        move_to(at_ + sign + 2);
        return after_tag(sign != 0 ? c : '\0', block);
      }
      token(c, open_brackets);
    }
  }

  void token(char c, std::string& open_brackets) {
    size_t end = at_ + 1;
    if (is_name_start(c)) {
      while (end < source_.size() && (is_name_start(source_[end]) || is_digit(source_[end]))) ++end;
      add(Token::kName, std::string_view(source_).substr(at_, end - at_));
      return move_to(end);
    }
    if (is_digit(c)) return number();
    if (c == '\'' || c == '"') return string(c);
    static constexpr std::string_view kPairs[] = {"//", "**", "==", "!=", ">=", "<="};
    const std::string_view two = std::string_view(source_).substr(at_, 2);
    if (std::find(std::begin(kPairs), std::end(kPairs), two) != std::end(kPairs)) {
      add(Token::kSymbol, two);
      return move_to(at_ + 2);
    }
    if (std::string_view("+-/*%~[](){}<>=.:|,").find(c) == kNone) {
      corrupt("the byte 0x{:02x} has no meaning here", static_cast<unsigned char>(c));
    }
    balance(c, open_brackets);
    add(Token::kSymbol, two.substr(0, 1));
    move_to(end);
  }

  void balance(char c, std::string& open_brackets) {
    if (c == '(') open_brackets.push_back(')');
    if (c == '[') open_brackets.push_back(']');
    if (c == '{') open_brackets.push_back('}');
    if (c != ')' && c != ']' && c != '}') return;
    if (open_brackets.empty() || open_brackets.back() != c) corrupt("'{}' closes nothing", c);
    open_brackets.pop_back();
  }

  size_t digits(size_t at) const {
    while (digit_at(at) || (at < source_.size() && source_[at] == '_' && digit_at(at + 1))) ++at;
    return at;
  }
  // An integer with a zero in front is a zero, and what follows is another.
  size_t zeros(size_t at) const {
    const auto zero_at = [&](size_t i) { return i < source_.size() && source_[i] == '0'; };
    while (zero_at(at) || (at < source_.size() && source_[at] == '_' && zero_at(at + 1))) ++at;
    return at;
  }
  bool digit_at(size_t at) const { return at < source_.size() && is_digit(source_[at]); }

  // 0x, 0o and 0b; false where the number is another.
  bool based_number() {
    const char c = at_ + 1 < source_.size() ? source_[at_ + 1] : '\0';
    const int base = c == 'x' || c == 'X'   ? 16
                     : c == 'o' || c == 'O' ? 8
                     : c == 'b' || c == 'B' ? 2
                                            : 0;
    if (source_[at_] != '0' || base == 0) return false;
    std::string text;
    size_t end = at_ + 2;
    for (; end < source_.size() && (is_name_start(source_[end]) || is_digit(source_[end])); ++end) {
      if (source_[end] != '_') text.push_back(source_[end]);
    }
    uint64_t value = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) {
      corrupt("a number that is none, or of more than 64 bits");
    }
    add(Token::kInteger, std::to_string(value));
    move_to(end);
    return true;
  }

  void number() {
    if (based_number()) return;
    size_t end = digits(at_);
    Token::Kind kind = Token::kInteger;
    const bool member =
        !tokens_.empty() && tokens_.back().kind == Token::kSymbol && tokens_.back().text == ".";
    if (!member && end < source_.size() && source_[end] == '.' && digit_at(end + 1)) {
      end = digits(end + 1);
      kind = Token::kFloat;
    }
    if (!member && end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      const size_t sign =
          end + 1 < source_.size() && (source_[end + 1] == '+' || source_[end + 1] == '-');
      if (digit_at(end + 1 + sign)) {
        end = digits(end + 1 + sign);
        kind = Token::kFloat;
      }
    }
    if (kind == Token::kInteger && !member && source_[at_] == '0') end = zeros(at_);
    std::string text = source_.substr(at_, end - at_);
    text.erase(std::remove(text.begin(), text.end(), '_'), text.end());
    add(kind, text);
    move_to(end);
  }

  void string(char quote) {
    const int begin = line_;
    std::string value;
    size_t at = at_ + 1;
    while (at < source_.size() && source_[at] != quote) {
      if (source_[at] == '\\' && at + 1 < source_.size()) {
        at = escape(at + 1, value);
      } else {
        value.push_back(source_[at++]);
      }
    }
    if (at >= source_.size()) corrupt("a string without its end");
    add(Token::kString, value);
    tokens_.back().line = begin;
    move_to(at + 1);
  }

  // Decodes the escape whose letter stands at `at`; the position after it.
  size_t escape(size_t at, std::string& value) {
    static constexpr std::string_view kLetters = "ntr\\'\"abfv", kValues = "\n\t\r\\'\"\a\b\f\v";
    const char c = source_[at];
    if (c == '\n') return at + 1;
    if (const size_t i = kLetters.find(c); i != kNone) {
      value.push_back(kValues[i]);
      return at + 1;
    }
    size_t width = 0, from = at + 1;
    int base = 16;
    if (c == 'x') width = 2;
    if (c == 'u') width = 4;
    if (c == 'U') width = 8;
    if (c >= '0' && c <= '7') {
      base = 8;
      from = at;
      while (width < 3 && from + width < source_.size() && source_[from + width] >= '0' &&
             source_[from + width] <= '7') {
        ++width;
      }
    }
    if (c == 'N' && at + 1 < source_.size() && source_[at + 1] == '{') {
      corrupt("a character by its name in a string");
    }
    if (width == 0) {  // not an escape: Python keeps the backslash
      value.push_back('\\');
      value.push_back(c);
      return at + 1;
    }
    uint32_t code = 0;
    const char* first = source_.data() + from;
    const char* last = source_.data() + std::min(from + width, source_.size());
    const auto parsed = std::from_chars(first, last, code, base);
    if (parsed.ec != std::errc() || parsed.ptr != first + width || code > 0x10ffff ||
        (code >= 0xd800 && code < 0xe000)) {
      corrupt("an escape in a string that names no character");
    }
    append_utf8(value, code);
    return from + width;
  }

  void add(Token::Kind kind, std::string_view text) {
    tokens_.push_back({kind, std::string(text), line_});
  }
  void move_to(size_t to) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(to), '\n'));
    at_ = to;
  }
  template <class... Args>
  [[noreturn]] void corrupt(fmt::format_string<Args...> format, Args&&... args) const {
    Meter meter;
    meter.line = line_;
    meter.corrupt(format, std::forward<Args>(args)...);
  }

  const std::string source_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  if (source.size() > kMaxSource) {
    fail(ErrorKind::kCorrupt, "chat template of {} bytes, more than {}", source.size(), kMaxSource);
  }
  return Lexer(valid_utf8_or_replaced(source)).run();
}

}  // namespace pith::jinja
