// Reading patterns of Oniguruma: characters, escapes and bracket classes, for onig_syntax.cc.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/regex/character_set.h"

namespace pith::onig {

struct Options {
  bool fold = false, extended = false, dot_all = false;
  bool ascii_word = false, ascii_digit = false, ascii_space = false, ascii_posix = false;
};

class Reader {
 public:
  Reader(std::string_view pattern, const std::string& what) : text_(pattern), what_(what) {}

  bool at_end() const { return at_ >= text_.size(); }
  bool looking_at(std::string_view s) const { return text_.substr(at_).starts_with(s); }
  bool accept(std::string_view s) {
    if (!looking_at(s)) return false;
    at_ += s.size();
    return true;
  }
  char32_t next();                   // kCorrupt at the end
  std::string_view until(char end);  // the text before `end`; reads `end` too
  size_t position() const { return at_; }
  void go_to(size_t position) { at_ = position; }

  [[noreturn]] void corrupt(const char* why) const;
  [[noreturn]] void unsupported(const char* construct) const;

  // Behind a backslash and the letter: \w \d \s \h and their complements, \p and \P.
  std::optional<CharacterSet> character_type(char32_t letter, const Options& options,
                                             bool in_brackets);
  // Behind a backslash and the letter, where it is no operator: \n, \x{..}, \x.., \u...., \c.,
  // octal numbers, or the letter itself. Bytes from 0x80 on must go on to a whole UTF-8 sequence.
  char32_t escape(char32_t letter);
  // Behind "[", to "]". The second is whether ^ negates all of it.
  std::pair<CharacterSet, bool> bracket(const Options& options, int depth);

 private:
  std::optional<uint32_t> number(uint32_t base, size_t digits);
  char32_t from_bytes(uint32_t first);
  std::optional<uint32_t> byte_escape();
  std::optional<CharacterSet> posix_bracket(const Options& options);
  char32_t scalar(uint32_t code, bool clamp) const;

  std::string_view text_;
  size_t at_ = 0;
  std::string what_;
};

}  // namespace pith::onig
