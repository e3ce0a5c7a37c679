// The regular expressions of tokenizer files, matched with PCRE2 over whole UTF-8 text.
//
// Patterns are Oniguruma's and are translated (onig_pattern.h). Every search is bounded in steps,
// memory and time by the budget of the text it is part of (text_budget.h). Thread-safe: each thread
// has its own match state.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "core/function_ref.h"
#include "core/regex/text_budget.h"

namespace pith {

class Regex {
 public:
  // Error(kCorrupt) where the pattern does not compile, Error(kUnsupported) where it cannot be
  // translated. `file` begins every message. Without `use_jit`, or where machine code cannot be
  // made, patterns are interpreted.
  Regex(std::string_view pattern, const std::string& file, bool use_jit = true);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  // Calls found(begin, end) for the non-overlapping matches from left to right; empty ones too, but
  // not where another match ends. `text` is valid UTF-8.
  void for_each_match(std::string_view text, TextBudget& budget,
                      FunctionRef<void(size_t, size_t)> found) const;
  // With a budget of its own.
  void for_each_match(std::string_view text, FunctionRef<void(size_t, size_t)> found) const;

  // The pattern as PCRE2 gets it. For tests.
  static std::string translate(std::string_view pattern);

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

}  // namespace pith
