// The regular expressions of tokenizer files, matched with PCRE2 over whole UTF-8 text.
//
// Patterns are written for Oniguruma or Rust; \w, \s, \d and their complements get the Unicode
// meaning these give them. Every search is bounded: match, depth and heap limits for one position,
// processor time for one text. What exceeds them is Error(kUnsupported) that names the pattern.
// Thread-safe: each thread has its own match state.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "core/function_ref.h"

namespace pith {

class Regex {
 public:
  // Error(kCorrupt) where the pattern does not compile. `file` begins every message. Without
  // `use_jit`, or where machine code cannot be made, patterns are interpreted.
  Regex(std::string_view pattern, const std::string& file, bool use_jit = true);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  // Calls found(begin, end) for the non-overlapping matches from left to right; empty ones too.
  // `text` is valid UTF-8.
  void for_each_match(std::string_view text, FunctionRef<void(size_t, size_t)> found) const;

  // The pattern with its character classes spelled out for PCRE2. For tests.
  static std::string translate(std::string_view pattern);

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

}  // namespace pith
