// Regular expressions of tokenizer.json, translated for PCRE2.
//
// Files are written for Oniguruma 6.9 in its own syntax, with UTF-8, as Python's `tokenizers` runs
// them. The translation matches exactly what Oniguruma would, or is refused: class set operations
// (&&, nested classes), \h \R \X \N \O, \w \b \d \s and POSIX brackets of Unicode, properties by
// their loose names, ^ and $ at lines, (?m) for the dot, options that reach to the end of the
// group, {n,m}+ that is not possessive, {,n}, {n}? and {m,n} with m > n, case folding with
// characters that fold to several ("ss"), plain groups that do not capture beside named ones,
// subexpression calls. Only the version of Unicode is PCRE2's.
//
// Refused: absent operators, callouts, \y, word segments, conditions that are patterns, references
// with levels, ignoring case or to one of several groups of a name, captures read after calls,
// properties that PCRE2 does not have (blocks, ages), look-behind that PCRE2 cannot compile.
#pragma once

#include <string>
#include <string_view>

namespace pith {

struct OnigPattern {
  std::string pcre2;
  bool search_start = false;  // \G: where a search starts is part of its result
  bool calls = false;         // \g<name>: groups call groups, perhaps themselves
};

// Error(kCorrupt) where Oniguruma refuses the pattern too, Error(kUnsupported) naming the
// construct. `what` begins messages. Takes time linear in the pattern but for classes that ignore
// case, of which there may be 32.
OnigPattern translate_oniguruma(std::string_view pattern, const std::string& what);

}  // namespace pith
