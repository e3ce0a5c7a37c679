// A string that knows of every byte whether the template wrote it or a message did: `origins` has
// one mark per byte. Operations that cut and paste keep the marks; those that cannot mark the whole
// result as content where any input was, which is the safe direction. Positions are bytes; a byte
// that is not part of valid UTF-8 counts as a character. A string that is `markup` needs no further
// escaping (Jinja's Markup); pieces of it are markup too, and appending does not change that.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pith::jinja {

enum class Origin : char { kTemplate = 't', kContent = 'c' };

class Text {
 public:
  Text() = default;
  Text(std::string_view bytes, Origin origin) { append(bytes, origin); }

  std::string_view view() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  Origin origin(size_t at) const { return static_cast<Origin>(origins_[at]); }
  // kContent where any byte is.
  Origin safe_origin() const;
  bool markup() const { return markup_; }
  void set_markup(bool markup) { markup_ = markup; }

  void append(std::string_view bytes, Origin origin) {
    bytes_.append(bytes);
    origins_.append(bytes.size(), static_cast<char>(origin));
  }
  void append(const Text& other) { append(other, 0, other.size()); }
  void append(const Text& other, size_t from, size_t count) {
    bytes_.append(other.bytes_, from, count);
    origins_.append(other.origins_, from, count);
  }
  Text slice(size_t from, size_t end) const;
  void reserve(size_t bytes) {
    bytes_.reserve(bytes);
    origins_.reserve(bytes);
  }

 private:
  std::string bytes_, origins_;
  bool markup_ = false;
};

struct Char {
  char32_t code;  // 0x110000 + byte where it is not UTF-8
  size_t length;
};
Char char_at(std::string_view s, size_t at);
size_t count_chars(std::string_view s);
// Where each character begins, and the end.
std::vector<uint32_t> char_starts(std::string_view s);
void append_utf8(std::string& out, char32_t code);
bool is_space(char32_t code);  // as Python's str.isspace

enum class Case { kUpper, kLower, kFold, kSwap, kCapitalize, kTitle, kTitleFilter };
// kTitle begins a word after anything but a letter, as str.title; kTitleFilter after spaces and - (
// { [ <.
Text change_case(const Text& text, Case to);

// The lines without their ends, or with them; ends are those of Python's str.splitlines.
std::vector<Text> split_lines(const Text& text, bool keep_ends = false);

// Without the characters of `set` (white space where null) at the ends asked for.
Text strip(const Text& text, const std::string* set, bool left, bool right);

// Knuth, Morris and Pratt: linear in the worst case, which std::string::find is not.
class Finder {
 public:
  explicit Finder(std::string_view needle);              // not empty
  size_t find(std::string_view hay, size_t from) const;  // npos where there is none

 private:
  std::string needle_;
  std::vector<uint32_t> fallback_;
};

// Where `needle` stands, without overlaps, at most `limit` times, from the left or from the right;
// ascending.
std::vector<size_t> find_all(std::string_view hay, std::string_view needle, size_t limit,
                             bool from_right = false);

}  // namespace pith::jinja
