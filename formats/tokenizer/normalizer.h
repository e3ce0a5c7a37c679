// Normalizers change the text before it is split. Immutable, thread-safe; linear but for Unicode
// forms (O(n log n)). Their output and the cost of patterns are bounded by the budget of the text
// (text_budget.h). Names and behaviour are those of Hugging Face tokenizers.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/regex/regex.h"
#include "core/regex/text_budget.h"
#include "core/utf8.h"
#include "formats/tokenizer/byte_trie.h"
#include "formats/tokenizer/charsmap.h"

namespace pith {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual std::string apply(std::string_view text, TextBudget& budget) const = 0;
};
using NormalizerPtr = std::unique_ptr<const Normalizer>;

NormalizerPtr normalize_sequence(std::vector<NormalizerPtr> parts);
NormalizerPtr normalize_form(NormalForm form);
NormalizerPtr normalize_lowercase();
NormalizerPtr normalize_strip(bool left, bool right);
NormalizerPtr normalize_strip_accents();
NormalizerPtr normalize_replace(std::string what, std::string with);
NormalizerPtr normalize_replace(Regex what, std::string with);
NormalizerPtr normalize_prepend(std::string prefix);  // where the text is not empty
NormalizerPtr normalize_nmt();
NormalizerPtr normalize_byte_level();

struct BertCleaning {
  bool clean_text = true, handle_chinese = true, strip_accents = true, lowercase = true;
};
NormalizerPtr normalize_bert(const BertCleaning& options);

// Precompiled: grapheme by grapheme as Hugging Face applies it.
NormalizerPtr normalize_charsmap(Charsmap map);

// All that SentencePiece does before its model: the character map by longest match (user-defined
// tokens stay as they are), blanks collapsed and cut off at both ends, the dummy prefix, and blanks
// shown as U+2581.
struct SentencePieceSpacing {
  bool add_dummy_prefix = true, remove_extra = true, escape = true, suffix = false;
};
NormalizerPtr normalize_sentencepiece(Charsmap map, ByteTrie user_defined,
                                      const SentencePieceSpacing& spacing);

inline constexpr std::string_view kMetaspace = "\xe2\x96\x81";  // U+2581

// `text` with every `what` replaced; an empty `what` changes nothing.
std::string replace_all(std::string_view text, std::string_view what, std::string_view with,
                        const TextBudget& budget);
std::string replace_all(std::string_view text, const Regex& what, std::string_view with,
                        TextBudget& budget);

}  // namespace pith
