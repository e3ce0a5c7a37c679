#include "core/regex/onig_class.h"

#include "core/error.h"
#include "core/utf8.h"

namespace pith::onig {
namespace {

constexpr int kMaxDepth = 100;

bool is_digit(char32_t c, uint32_t base) {
  if (base == 8) return c >= '0' && c <= '7';
  return (c >= '0' && c <= '9') ||
         (base == 16 && ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')));
}
uint32_t value_of(char32_t c) {
  return static_cast<uint32_t>(c <= '9' ? c - '0' : (c | 0x20u) - 'a' + 10);
}

// One token of a bracket class: a character, or one of the operators.
struct Token {
  enum Type { kCharacter, kSet, kRange, kAnd, kOpen, kClose } type = kCharacter;
  char32_t character = 0;
  CharacterSet set;
};

}  // namespace

void Reader::corrupt(const char* why) const {
  fail(ErrorKind::kCorrupt, "{}: pattern {} does not compile: {} at byte {}", what_,
       text_.substr(0, 200), why, at_);
}
void Reader::unsupported(const char* construct) const {
  fail(ErrorKind::kUnsupported, "{}: pattern {}: {} is not supported (byte {})", what_,
       text_.substr(0, 200), construct, at_);
}

char32_t Reader::next() {
  if (at_end()) corrupt("the pattern ends too early");
  return next_code_point(text_, at_);
}

std::string_view Reader::until(char end) {
  const size_t found = text_.find(end, at_);
  if (found == std::string_view::npos) corrupt("a name does not end");
  const std::string_view name = text_.substr(at_, found - at_);
  at_ = found + 1;
  return name;
}

// Up to `digits` digits. nullopt: none.
std::optional<uint32_t> Reader::number(uint32_t base, size_t digits) {
  uint64_t value = 0;
  size_t read = 0;
  for (; read < digits && !at_end() && is_digit(static_cast<unsigned char>(text_[at_]), base);
       ++read, ++at_) {
    value = value * base + value_of(static_cast<unsigned char>(text_[at_]));
  }
  if (value > UINT32_MAX) corrupt("a number is too large");
  return read == 0 ? std::nullopt : std::optional(static_cast<uint32_t>(value));
}

char32_t Reader::scalar(uint32_t code, bool clamp) const {
  if (code > 0x10ffff && clamp) return 0x10ffff;
  if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) corrupt("a code point is too large");
  return code;
}

// The value of \xHH or of an octal number behind it, where one comes next.
std::optional<uint32_t> Reader::byte_escape() {
  const size_t before = at_;
  if (accept("\\x") && !looking_at("{")) return number(16, 2).value_or(0);
  at_ = before;
  return std::nullopt;
}

// \xe3\x81\x82
char32_t Reader::from_bytes(uint32_t first) {
  if (first > 0xff) corrupt("a number is too large");
  if (first < 0x80) return first;
  std::string bytes(1, static_cast<char>(first));
  const size_t length = utf8_length(bytes[0]);
  while (bytes.size() < length) {
    const auto more = byte_escape();
    if (!more) corrupt("a byte sequence is not UTF-8");
    bytes += static_cast<char>(*more);
  }
  if (valid_utf8_prefix(bytes) != bytes.size()) corrupt("a byte sequence is not UTF-8");
  size_t at = 0;
  return next_code_point(bytes, at);
}

char32_t Reader::escape(char32_t letter) {
  switch (letter) {
    case 'n':
      return '\n';
    case 't':
      return '\t';
    case 'r':
      return '\r';
    case 'f':
      return '\f';
    case 'v':
      return '\v';
    case 'a':
      return 7;
    case 'b':
      return 8;
    case 'e':
      return 27;
    case 'M':
      unsupported("\\M-");
    case 'C':
      if (!accept("-")) corrupt("\\C without \"-\"");
      [[fallthrough]];
    case 'c': {
      char32_t c = next();
      if (c == '?') return 127;
      if (c == '\\') c = escape(next());
      return c & 0x9fu;
    }
    case 'x':
    case 'o': {
      if (at_end()) return letter;
      const uint32_t base = letter == 'x' ? 16 : 8;
      const size_t before = at_;
      if (accept("{")) {
        if (const auto code = number(base, base == 16 ? 8 : 11)) {
          if (!accept("}")) unsupported("a sequence of code points");
          return scalar(*code, false);
        }
        at_ = before;
        return letter;
      }
      return letter == 'x' ? from_bytes(number(16, 2).value_or(0)) : letter;
    }
    case 'u': {
      if (at_end()) return letter;
      const size_t before = at_;
      const auto code = number(16, 4);
      if (!code || at_ - before != 4) corrupt("\\u without four digits");
      return scalar(*code, false);
    }
    default:
      if (letter >= '0' && letter <= '7') {
        --at_;
        return from_bytes(*number(8, 3));
      }
      return letter;
  }
}

std::optional<CharacterSet> Reader::character_type(char32_t letter, const Options& options,
                                                   bool in_brackets) {
  const bool ascii = options.ascii_posix;
  const auto posix = [](const char* name, bool of_ascii, bool negated) {
    const CharacterSet set = CharacterSet::posix(name, of_ascii);
    return negated ? ~set : set;
  };
  switch (letter) {
    case 'w':
    case 'W': {
      const bool of_ascii = ascii || options.ascii_word;
      const CharacterSet set =
          in_brackets ? CharacterSet::posix("word", of_ascii) : CharacterSet::word(of_ascii);
      return letter == 'W' ? ~set : set;
    }
    case 'd':
    case 'D':
      return posix("digit", ascii || options.ascii_digit, letter == 'D');
    case 's':
    case 'S':
      return posix("space", ascii || options.ascii_space, letter == 'S');
    case 'h':
    case 'H':
      return posix("xdigit", ascii, letter == 'H');
    case 'p':
    case 'P': {
      bool negated = letter == 'P';
      // \p without braces is a letter in some versions of Oniguruma and a property in others.
      if (!accept("{")) unsupported("\\p without braces");
      if (accept("^")) negated = !negated;
      const std::string name(until('}'));
      std::string plain;
      for (const char c : name) plain += c == ' ' || c == '-' || c == '_' ? "" : std::string(1, c);
      for (char& c : plain) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
      const bool of_ascii = ascii || (options.ascii_word && plain == "word") ||
                            (options.ascii_digit && plain == "digit") ||
                            (options.ascii_space && plain == "space");
      const auto set = plain == "word" && !in_brackets ? CharacterSet::word(of_ascii)
                                                       : CharacterSet::property(name, of_ascii);
      if (!set) unsupported(("property \"" + name.substr(0, 64) + "\"").c_str());
      return negated ? ~*set : *set;
    }
    default:
      return std::nullopt;
  }
}

// Behind "[", where ":" comes next.
std::optional<CharacterSet> Reader::posix_bracket(const Options& options) {
  const size_t before = at_;
  accept(":");
  const bool negated = accept("^");
  const size_t end = text_.find(":]", at_);
  const std::string_view name =
      end == std::string_view::npos ? std::string_view() : text_.substr(at_, end - at_);
  bool letters = !name.empty();
  for (const char c : name) letters = letters && ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
  if (!letters) {
    at_ = before;
    return std::nullopt;
  }
  static constexpr std::string_view kNames =
      " alnum alpha ascii blank cntrl digit graph lower print punct space upper word xdigit ";
  if (kNames.find(" " + std::string(name) + " ") == std::string_view::npos) {
    corrupt("a POSIX bracket that there is not");
  }
  at_ = end + 2;
  const bool ascii = options.ascii_posix || (options.ascii_word && name == "word") ||
                     (options.ascii_digit && name == "digit") ||
                     (options.ascii_space && name == "space");
  const CharacterSet set = CharacterSet::posix(name, ascii);
  return negated ? ~set : set;
}

// Follows Oniguruma's parser state by state: the meaning of "-" depends on the token before it.
std::pair<CharacterSet, bool> Reader::bracket(const Options& options, int depth) {
  if (depth > kMaxDepth) corrupt("brackets are nested too deep");
  const bool negated = accept("^");
  const auto token = [&](bool ends_range) {
    Token t;
    const char32_t c = next();
    t.character = c;
    if (c == ']') {
      t.type = Token::kClose;
    } else if (c == '-') {
      t.type = Token::kRange;
    } else if (c == '&' && accept("&")) {
      t.type = Token::kAnd;
    } else if (c == '[') {
      t.type = Token::kOpen;
      if (looking_at(":")) {
        if (auto set = posix_bracket(options)) {
          t.type = Token::kSet;
          t.set = *std::move(set);
        }
      }
    } else if (c == '\\') {
      const char32_t letter = next();
      if (auto set = character_type(letter, options, true)) {
        t.type = Token::kSet;
        t.set = *std::move(set);
      } else if (ends_range && (letter == 'x') && looking_at("{")) {
        const size_t before = at_;
        accept("{");
        const auto code = number(16, 8);
        if (code && accept("}")) {
          t.character = scalar(*code, *code > 0x10ffff);
        } else {
          at_ = before;
          t.character = escape(letter);
        }
      } else {
        t.character = escape(letter);
      }
    }
    return t;
  };

  std::optional<CharacterSet> intersection;  // of what stands before the last &&
  CharacterSet set;
  enum { kStart, kValue, kInRange, kComplete } state = kStart;
  std::optional<char32_t> value;  // in kValue: the character, or a set where there is none
  const auto flush = [&] {
    if (state == kValue && value) set = set | CharacterSet::range(*value, *value);
    value.reset();
  };
  const auto add = [&](char32_t c) {
    if (state == kInRange) {
      if (!value || *value > c) corrupt("a range is empty");
      set = set | CharacterSet::range(*value, c);
      value.reset();
      state = kComplete;
    } else {
      flush();
      value = c;
      state = kValue;
    }
  };

  Token t = token(false);
  if (t.type == Token::kClose) {  // "]" is a member where another one comes
    if (text_.find(']', at_) == std::string_view::npos) corrupt("a class is empty");
    t.type = Token::kCharacter;
  }
  while (t.type != Token::kClose) {
    bool fetched = false;
    switch (t.type) {
      case Token::kCharacter:
        add(t.character);
        break;
      case Token::kSet:
        if (state == kInRange) corrupt("a range ends in a class");
        flush();
        set = set | t.set;
        state = kValue;
        break;
      case Token::kRange:
        if (state == kInRange) {
          add('-');
          break;
        }
        fetched = true;
        if (state == kValue) {
          t = token(true);
          if (t.type == Token::kClose || t.type == Token::kAnd) {
            add('-');
          } else if (!value) {
            corrupt("a range begins with a class");
          } else {
            state = kInRange;
          }
        } else {
          t = token(false);
          add('-');
        }
        break;
      case Token::kOpen: {
        flush();  // what begins a range is dropped here, as Oniguruma does
        state = kComplete;
        const auto [inner, inner_negated] = bracket(options, depth + 1);
        set = set | (inner_negated ? ~inner : inner);
        break;
      }
      case Token::kAnd:
        flush();
        state = kStart;
        intersection = intersection ? *intersection & set : set;
        set = CharacterSet();
        break;
      case Token::kClose:
        break;
    }
    if (!fetched) t = token(state == kInRange);
  }
  flush();
  if (intersection) set = *intersection & set;
  return {set, negated};
}

}  // namespace pith::onig
