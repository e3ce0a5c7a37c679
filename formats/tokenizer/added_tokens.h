// Tokens that are cut out of the text before the model sees it, the longest first at each place.
// A search costs O(bytes * longest added token), within the time of the text's budget. Immutable,
// thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/tokenizer/byte_trie.h"
#include "formats/tokenizer/normalizer.h"
#include "formats/tokenizer/vocabulary.h"

namespace pith {

struct AddedToken {
  std::string text;
  int32_t id = -1;
  bool special = false;
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the blanks before it along
  bool rstrip = false;
  bool normalized = false;  // matched, normalized, against normalized text
  friend bool operator==(const AddedToken&, const AddedToken&) = default;
};

// Hugging Face tokenizers do not take the ids of added tokens from the file. A token that the
// vocabulary has keeps its id there; others are numbered from the count of the vocabulary on.
// `largest`: the largest id of the added tokens so far, or -1. Error(kCorrupt) where gaps in the
// vocabulary lead to the id of another token.
int32_t id_of_added(const Vocabulary& vocabulary, std::string_view text, int32_t largest,
                    const std::string& file);

class AddedTokens {
 public:
  static constexpr size_t kMax = 65'536;

  AddedTokens() = default;
  // `normalizer` may be null. All tokens draw on one budget.
  AddedTokens(std::vector<AddedToken> tokens, const Normalizer* normalizer,
              const std::string& file);

  struct Piece {
    size_t begin, end;
    int32_t id;  // -1: text between tokens
  };
  using Ranges = std::span<const std::pair<size_t, size_t>>;  // [begin, end), ascending
  // Cuts text at those added tokens whose `normalized` is as asked. Special ones only with
  // parse_special, and where their text has no byte in `user_text`: the blanks that a token takes
  // along may.
  std::vector<Piece> cut(std::string_view text, bool normalized, bool parse_special,
                         TextBudget& budget, Ranges user_text = {}) const;

  const std::vector<AddedToken>& all() const { return tokens_; }

 private:
  std::vector<AddedToken> tokens_;
  ByteTrie tries_[2][2];  // [normalized][with special ones]; values are indices into tokens_
};

}  // namespace pith
