// Pre-tokenizers cut the text into the words that a model sees, and may respell it on the way.
// Immutable, thread-safe; their output and the cost of patterns are bounded by the budget of the
// text (text_budget.h). Names and behaviour are those of Hugging Face tokenizers.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "core/regex/regex.h"

namespace pith {

struct Words {
  struct Span {
    size_t begin, end;
  };
  std::string text;
  std::vector<Span> spans;  // ascending, disjoint, not empty; gaps are dropped text
  bool begins_text = true;  // text[0] begins what the user gave, no added token came before it
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual void apply(Words& words, TextBudget& budget) const = 0;
};
using PreTokenizerPtr = std::unique_ptr<const PreTokenizer>;

// What becomes of the matches of a split. "Hello-World" at "-": [Hello][World], [Hello][-][World],
// [Hello-][World], [Hello][-World], and contiguous: isolated, but neighbouring matches are one.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

PreTokenizerPtr split_sequence(std::vector<PreTokenizerPtr> parts);
PreTokenizerPtr split_regex(Regex pattern, SplitBehavior behavior, bool invert);
PreTokenizerPtr split_text(std::string pattern, SplitBehavior behavior, bool invert);
// Splits at characters for which is_match holds.
PreTokenizerPtr split_characters(bool (*is_match)(char32_t), SplitBehavior behavior);
PreTokenizerPtr split_whitespace();  // runs of word characters, runs of the rest, blanks dropped
PreTokenizerPtr split_bert();
PreTokenizerPtr split_byte_level(bool add_prefix_space, bool use_regex, const std::string& file);

enum class PrependScheme { kAlways, kFirst, kNever };
PreTokenizerPtr split_metaspace(std::string replacement, PrependScheme scheme, bool split);

}  // namespace pith
