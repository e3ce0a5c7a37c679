// A vocabulary of scored, typed pieces: what SentencePiece models and GGUF files of that kind hold,
// and how either becomes a model.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "formats/tokenizer/pipeline.h"

namespace pith {

enum class PieceType {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

struct Piece {
  std::string text;
  float score = 0;
  PieceType type = PieceType::kNormal;
};

PieceType piece_type(int64_t value, const std::string& file);  // Error(kCorrupt) where it is none

// Pieces with ids in order. Error(kCorrupt) where a score is not finite, a byte piece is not
// "<0xHH>" or the text is not UTF-8. Control pieces (and unknown ones) are hidden from the text of
// users.
std::shared_ptr<Vocabulary> vocabulary_of_pieces(const std::vector<Piece>& pieces,
                                                 const std::string& file);

std::unique_ptr<TokenModel> bpe_of_pieces(const std::vector<Piece>& pieces,
                                          std::shared_ptr<const Vocabulary> vocabulary,
                                          int32_t unknown);
std::unique_ptr<TokenModel> unigram_of_pieces(const std::vector<Piece>& pieces,
                                              std::shared_ptr<const Vocabulary> vocabulary,
                                              int32_t unknown, const std::string& file);
// Control and unknown pieces as special added tokens; with `user_defined` those as added tokens
// that are not.
std::vector<AddedToken> added_of_pieces(const std::vector<Piece>& pieces, bool user_defined);

// U+2581 to blanks, byte pieces to bytes, and the dummy blank at the front dropped.
DecoderPtr decoder_of_pieces(bool drop_first_blank);

}  // namespace pith
