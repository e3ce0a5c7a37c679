// Models that look words up: WordPiece takes the longest token that fits, again and again (one
// unknown for the whole word where that fails); WordLevel takes the word.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "formats/tokenizer/model.h"
#include "formats/tokenizer/vocabulary.h"

namespace pith {

struct WordPieceOptions {
  int32_t unknown = -1;                  // -1: an unknown word is Error(kUnsupported)
  std::string first_prefix;              // of tokens that begin a word: "" or U+2581
  std::string continuing_prefix = "##";  // of tokens inside a word
  uint64_t max_characters = 100;         // longer words are unknown
};

std::unique_ptr<TokenModel> make_word_piece(std::shared_ptr<const Vocabulary> vocabulary,
                                            const WordPieceOptions& options,
                                            const std::string& file);
std::unique_ptr<TokenModel> make_word_level(std::shared_ptr<const Vocabulary> vocabulary,
                                            int32_t unknown, const std::string& file);

}  // namespace pith
