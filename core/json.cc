#include "core/json.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "core/error.h"

namespace pith {
namespace {

constexpr size_t kMaxNotes = 3;

[[noreturn]] void wrong_type(const std::string& name, const char* key, const char* wanted,
                             const Json& got) {
  fail(ErrorKind::kCorrupt, "{}: \"{}\" should be {}, it is {}", name, key, wanted,
       got.type_name());
}

void append_utf8(uint32_t c, std::string* to) {
  const auto byte = [&](uint32_t v) { to->push_back(static_cast<char>(v)); };
  if (c < 0x80) {
    byte(c);
  } else if (c < 0x800) {
    byte(0xc0 | c >> 6);
    byte(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    byte(0xe0 | c >> 12);
    byte(0x80 | (c >> 6 & 0x3f));
    byte(0x80 | (c & 0x3f));
  } else {
    byte(0xf0 | c >> 18);
    byte(0x80 | (c >> 12 & 0x3f));
    byte(0x80 | (c >> 6 & 0x3f));
    byte(0x80 | (c & 0x3f));
  }
}

// The length of the UTF-8 character at the start of text; 0 where it is invalid.
size_t utf8_length(std::string_view text) {
  const auto at = [&](size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const auto follows = [&](size_t i) { return (at(i) & 0xc0u) == 0x80u; };
  const unsigned a = at(0), b = at(1);
  if (a < 0x80) return 1;
  if (a >= 0xc2 && a <= 0xdf) return follows(1) ? 2 : 0;
  if (a >= 0xe0 && a <= 0xef) {
    const bool overlong = a == 0xe0 && b < 0xa0, surrogate = a == 0xed && b > 0x9f;
    return follows(1) && follows(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (a >= 0xf0 && a <= 0xf4) {
    const bool overlong = a == 0xf0 && b < 0x90, beyond = a == 0xf4 && b > 0x8f;
    return follows(1) && follows(2) && follows(3) && !overlong && !beyond ? 4 : 0;
  }
  return 0;
}

// Recursive descent; the stack is bounded by the depth.
class Parser {
 public:
  Parser(std::string_view text, const std::string& name, int max_depth,
         std::vector<std::string>* notes)
      : text_(text), name_(name), max_depth_(max_depth), notes_(notes) {}

  Json document() {
    if (text_.starts_with("\xef\xbb\xbf")) at_ = 3;
    Json root = value(0);
    skip_space();
    if (at_ != text_.size()) wrong("text follows the value");
    return root;
  }

 private:
  [[noreturn]] void wrong(const char* what) const {
    const std::string_view before = text_.substr(0, at_);
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const size_t begin = before.rfind('\n');  // npos + 1 is 0
    fail(ErrorKind::kCorrupt, "{}: not valid JSON: {} at line {}, column {}", name_, what, line,
         at_ - (begin + 1) + 1);
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool take(char c) {
    if (peek() != c || at_ == text_.size()) return false;
    ++at_;
    return true;
  }
  bool take_word(std::string_view word) {
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }
  void skip_space() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t'))
      ++at_;
  }

  Json value(int depth) {
    if (++values_ > kMaxJsonValues)
      fail(ErrorKind::kCorrupt, "{}: JSON of more than {} values", name_, kMaxJsonValues);
    skip_space();
    if (at_ == text_.size()) wrong(text_.empty() ? "the text is empty" : "the text ends");
    switch (peek()) {
      case '{':
        return object(depth + 1);
      case '[':
        return array(depth + 1);
      case '"':
        return string();
      case 't':
        if (take_word("true")) return true;
        break;
      case 'f':
        if (take_word("false")) return false;
        break;
      case 'n':
        if (take_word("null")) return nullptr;
        break;
      case 'N':
        if (take_word("NaN")) return std::numeric_limits<double>::quiet_NaN();
        break;
      case 'I':
        if (take_word("Infinity")) return std::numeric_limits<double>::infinity();
        break;
      case '-':
        if (take_word("-Infinity")) return -std::numeric_limits<double>::infinity();
        return number();
      default:
        if (is_digit(peek())) return number();
    }
    wrong("no value");
  }

  void enter(int depth) {
    if (depth > max_depth_)
      fail(ErrorKind::kCorrupt, "{}: JSON nested deeper than {}", name_, max_depth_);
    ++at_;
  }
  Json array(int depth) {
    enter(depth);
    Json::array_t items;
    skip_space();
    if (take(']')) return Json(std::move(items));
    do {
      items.push_back(value(depth));
      skip_space();
    } while (take(','));
    if (!take(']')) wrong("expected \",\" or \"]\"");
    return Json(std::move(items));
  }
  Json object(int depth) {
    enter(depth);
    Json::object_t members;
    skip_space();
    if (take('}')) return Json(std::move(members));
    do {
      skip_space();
      if (peek() != '"') wrong("expected a key in quotes");
      const auto [it, is_new] = members.try_emplace(string());
      skip_space();
      if (!take(':')) wrong("expected \":\"");
      if (!is_new && notes_ != nullptr && noted_++ < kMaxNotes) {
        notes_->push_back(fmt::format(
            "{}: the key {} occurs twice; its last value counts", name_,
            Json(it->first.substr(0, 80)).dump(-1, ' ', true, Json::error_handler_t::replace)));
      }
      it->second = value(depth);
      skip_space();
    } while (take(','));
    if (!take('}')) wrong("expected \",\" or \"}\"");
    return Json(std::move(members));
  }

  static bool is_digit(char c) { return c >= '0' && c <= '9'; }
  void digits() {
    if (!is_digit(peek())) wrong("expected a digit");
    while (is_digit(peek())) ++at_;
  }
  Json number() {
    const size_t begin = at_;
    take('-');
    if (!take('0')) digits();
    bool whole = true;
    if (take('.')) {
      whole = false;
      digits();
    }
    if (peek() == 'e' || peek() == 'E') {
      whole = false;
      ++at_;
      if (!take('-')) take('+');
      digits();
    }
    const std::string_view s = text_.substr(begin, at_ - begin);
    const char* const end = s.data() + s.size();
    if (whole && s[0] != '-') {
      uint64_t v;
      if (std::from_chars(s.data(), end, v).ec == std::errc()) return v;
    } else if (whole) {
      int64_t v;
      if (std::from_chars(s.data(), end, v).ec == std::errc()) return v;
    }
    double v = 0;
    if (std::from_chars(s.data(), end, v).ec == std::errc()) return v;
    // Too large or too small, and from_chars does not say which.
    long double wide = 0;
    if (std::from_chars(s.data(), end, wide).ec == std::errc()) return static_cast<double>(wide);
    const size_t exponent = s.find_first_of("eE");
    const std::string_view mantissa = s.substr(0, exponent);
    const size_t first = mantissa.find_first_of("123456789");
    const bool tiny =
        first == s.npos || (exponent == s.npos ? first > s.find('.') : s[exponent + 1] == '-');
    const double magnitude = tiny ? 0 : std::numeric_limits<double>::infinity();
    return s[0] == '-' ? -magnitude : magnitude;
  }

  std::string string() {
    ++at_;
    std::string out;
    for (;;) {
      // Copies everything up to a quote or an escape.
      const size_t begin = at_;
      while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\\') {
        if (static_cast<unsigned char>(text_[at_]) < 0x20) wrong("a control character in a string");
        const size_t length = utf8_length(text_.substr(at_, 4));
        if (length == 0) wrong("a byte that is not UTF-8");
        at_ += length;
      }
      out.append(text_, begin, at_ - begin);
      if (at_ == text_.size()) wrong("the text ends in a string");
      if (take('"')) return out;
      ++at_;
      escape(&out);
    }
  }
  void escape(std::string* to) {
    constexpr std::string_view kLetters = "\"\\/bfnrt", kCharacters = "\"\\/\b\f\n\r\t";
    if (take('u')) {
      uint32_t c = four_digits();
      if (c >= 0xd800 && c <= 0xdfff) {
        const size_t back = at_;
        const uint32_t low = c < 0xdc00 && take_word("\\u") ? four_digits() : 0;
        if (low >= 0xdc00 && low <= 0xdfff) {
          c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        } else {
          c = 0xfffd;
          at_ = back;
        }
      }
      return append_utf8(c, to);
    }
    const size_t which = at_ < text_.size() ? kLetters.find(text_[at_]) : kLetters.npos;
    if (which == kLetters.npos) wrong("an unknown escape in a string");
    ++at_;
    to->push_back(kCharacters[which]);
  }
  uint32_t four_digits() {
    const std::string_view s = text_.substr(at_, 4);
    uint32_t v = 0;
    const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), v, 16);
    if (s.size() != 4 || error != std::errc() || end != s.data() + 4)
      wrong("\\u without four hexadecimal digits");
    at_ += 4;
    return v;
  }

  const std::string_view text_;
  const std::string& name_;
  const int max_depth_;
  std::vector<std::string>* const notes_;
  size_t at_ = 0, values_ = 0, noted_ = 0;
};

}  // namespace

Json parse_json(std::string_view text, const std::string& name, int max_depth,
                std::vector<std::string>* notes) {
  return Parser(text, name, max_depth, notes).document();
}

const Json* json_find(const Json& j, const char* key) {
  if (!j.is_object()) return nullptr;
  const auto it = j.find(key);
  return it == j.end() || it->is_null() ? nullptr : &*it;
}

const Json& json_member(const Json& j, const char* key, const std::string& name) {
  if (const Json* found = json_find(j, key)) return *found;
  fail(ErrorKind::kCorrupt, "{}: \"{}\" is missing", name, key);
}

uint64_t json_uint(const Json& j, const char* key, const std::string& name,
                   std::optional<uint64_t> missing) {
  if (missing && json_find(j, key) == nullptr) return *missing;
  const Json& v = json_member(j, key, name);
  if (!v.is_number_unsigned()) wrong_type(name, key, "a non-negative integer", v);
  return v.get<uint64_t>();
}
double json_number(const Json& j, const char* key, const std::string& name,
                   std::optional<double> missing) {
  if (missing && json_find(j, key) == nullptr) return *missing;
  const Json& v = json_member(j, key, name);
  if (!v.is_number()) wrong_type(name, key, "a number", v);
  return v.get<double>();
}
bool json_bool(const Json& j, const char* key, const std::string& name,
               std::optional<bool> missing) {
  if (missing && json_find(j, key) == nullptr) return *missing;
  const Json& v = json_member(j, key, name);
  if (!v.is_boolean()) wrong_type(name, key, "true or false", v);
  return v.get<bool>();
}
std::string json_string(const Json& j, const char* key, const std::string& name,
                        std::optional<std::string> missing) {
  if (missing && json_find(j, key) == nullptr) return *missing;
  const Json& v = json_member(j, key, name);
  if (!v.is_string()) wrong_type(name, key, "a string", v);
  return v.get<std::string>();
}

}  // namespace pith
