// Sets of characters as patterns of PCRE2 10.42, which has no set operations: a set is either the
// members of one bracket class or, after a union, intersection or complement that no single class
// expresses, a pattern that matches exactly one character (by lookahead and atomic groups). Also
// Unicode case folding as Oniguruma applies it. Properties are those of the PCRE2 library,
// folding that of utf8proc. Thread-safe.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pith {

class CharacterSet {
 public:
  CharacterSet() = default;  // empty
  static CharacterSet range(char32_t first, char32_t last);
  static CharacterSet any();
  // \p{name} as Oniguruma knows it: case, blanks, '-' and '_' do not matter. `ascii` restricts
  // POSIX names (alnum, space, word ...) to ASCII. nullopt: unknown, or PCRE2 does not have it.
  static std::optional<CharacterSet> property(std::string_view name, bool ascii);
  // The same for a POSIX name that exists.
  static CharacterSet posix(std::string_view name, bool ascii = false);
  // \w outside of brackets, and what \b goes by: some numbers of Latin-1 more than [[:word:]].
  static CharacterSet word(bool ascii);

  CharacterSet operator|(const CharacterSet& other) const;
  CharacterSet operator&(const CharacterSet& other) const;
  CharacterSet operator~() const;

  // A PCRE2 pattern, one unit for a quantifier, that matches one character.
  std::string pattern() const;
  // Which of `characters` are members.
  std::vector<bool> contains(const std::u32string& characters) const;

 private:
  bool simple() const { return matcher_.empty(); }
  static CharacterSet of_items(std::string items);
  static CharacterSet of_matcher(std::string matcher);

  std::string items_;     // what stands between [ and ]
  bool negated_ = false;  // [^items]
  bool escape_ = false;   // items_ is one \p{..} or \P{..}
  std::string matcher_;   // where no class says it
};

// All characters that fold to what `c` folds to, c among them.
std::u32string case_variants(char32_t c);
// The two or three characters that one of a few, as U+00DF, folds to; "" for all others.
std::u32string_view multiple_fold(char32_t c);
// The longest prefix of `text` that single characters fold to ("ss", "ffi"): its length in
// characters (0: none), and those characters.
struct MultipleFold {
  size_t length = 0;
  std::u32string singles;
};
MultipleFold multiple_fold_at(std::u32string_view text);
// `set` with all case variants of its members.
CharacterSet with_case_variants(const CharacterSet& set);
// The case foldings of members of `set` that are longer than one character; shorter ones first.
std::vector<std::u32string> multiple_folds(const CharacterSet& set);

// `c` for PCRE2, inside of a class and outside.
std::string escaped(char32_t c);

}  // namespace pith
