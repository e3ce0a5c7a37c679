// The syntax of Oniguruma 6.9 (ONIG_SYNTAX_ONIGURUMA) as a tree. See onig_pattern.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/regex/character_set.h"

namespace pith::onig {

inline constexpr int kInfinite = -1;

enum class Kind {
  kEmpty,
  kLiteral,        // character, fold
  kSet,            // set, then negated; fold
  kText,           // PCRE2 as it stands
  kConcat,         // parts
  kAlternate,      // parts
  kGroup,          // parts[0], numbered `group`
  kPrefixed,       // text parts[0] ")": look-around, atomic group, group without number
  kRepeat,         // parts[0], low, high, greedy
  kBackreference,  // to `group`
  kCall,           // of `group`, or of the whole pattern
  kIf,             // whether `group` has matched: parts are none, then, or then and else
};

struct Node {
  Kind kind = Kind::kEmpty;
  std::string text;
  std::vector<Node> parts;
  char32_t character = 0;
  CharacterSet set;
  bool negated = false, fold = false;
  bool unit = false;    // kText: a quantifier may follow it
  bool anchor = false;  // matches no text: Oniguruma lets no quantifier follow it
  bool whole = false;
  size_t group = 0;  // from 0
  int low = 0, high = 0;
  bool greedy = true;
};

struct Syntax {
  Node root;
  std::vector<bool> referenced;  // by group
  bool search_start = false;
  bool calls = false;
};

// Error(kCorrupt), Error(kUnsupported) as translate_oniguruma.
Syntax parse(std::string_view pattern, const std::string& what);

}  // namespace pith::onig
