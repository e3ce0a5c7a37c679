#include "formats/tokenizer/pieces.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "formats/printable.h"
#include "formats/tokenizer/bpe.h"
#include "formats/tokenizer/unigram.h"

namespace pith {

PieceType piece_type(int64_t value, const std::string& file) {
  if (value < 0 || value > 6)
    fail(ErrorKind::kCorrupt, "{}: {} is not a type of a token", file, value);
  return value == 0 ? PieceType::kNormal : static_cast<PieceType>(value);
}

std::shared_ptr<Vocabulary> vocabulary_of_pieces(const std::vector<Piece>& pieces,
                                                 const std::string& file) {
  if (pieces.empty()) fail(ErrorKind::kCorrupt, "{}: the vocabulary is empty", file);
  auto made = std::make_shared<Vocabulary>();
  uint64_t id = 0;
  for (const Piece& piece : pieces) {
    if (!std::isfinite(piece.score))
      fail(ErrorKind::kCorrupt, "{}: the score of token {} is not finite", file, id);
    if (piece.type == PieceType::kByte && !byte_of_token(piece.text)) {
      fail(ErrorKind::kCorrupt, "{}: the byte token {} is {} instead of <0xHH>", file, id,
           printable(piece.text));
    }
    if (valid_utf8_prefix(piece.text) != piece.text.size()) {
      fail(ErrorKind::kCorrupt, "{}: token {} is not UTF-8", file, id);
    }
    made->add(piece.text, id, file);
    if (piece.type == PieceType::kControl || piece.type == PieceType::kUnknown)
      made->hide(static_cast<int32_t>(id));
    ++id;
  }
  return made;
}

std::unique_ptr<TokenModel> bpe_of_pieces(const std::vector<Piece>& pieces,
                                          std::shared_ptr<const Vocabulary> vocabulary,
                                          int32_t unknown) {
  ScoredBpeVocabulary scored;
  BpeOptions options;
  options.unknown = unknown;
  options.fuse_unknown = true;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const PieceType type = pieces[i].type;
    scored.scores.push_back(pieces[i].score);
    scored.mergeable.push_back(type == PieceType::kNormal || type == PieceType::kUserDefined ||
                               type == PieceType::kUnused);
    scored.unused.push_back(type == PieceType::kUnused);
    if (type == PieceType::kUserDefined) scored.frozen.push_back(static_cast<int32_t>(i));
    if (type == PieceType::kByte) options.byte_fallback = true;
  }
  return make_scored_bpe(std::move(vocabulary), std::move(scored), options);
}

std::unique_ptr<TokenModel> unigram_of_pieces(const std::vector<Piece>& pieces,
                                              std::shared_ptr<const Vocabulary> vocabulary,
                                              int32_t unknown, const std::string& file) {
  UnigramOptions options;
  options.unknown = unknown;
  options.single_precision = true;
  for (const Piece& piece : pieces) {
    options.scores.push_back(static_cast<double>(piece.score));
    options.usable.push_back(piece.type == PieceType::kNormal ||
                             piece.type == PieceType::kUserDefined);
    options.user_defined.push_back(piece.type == PieceType::kUserDefined);
    if (piece.type == PieceType::kByte) options.byte_fallback = true;
  }
  return make_unigram(std::move(vocabulary), std::move(options), file);
}

std::vector<AddedToken> added_of_pieces(const std::vector<Piece>& pieces, bool user_defined) {
  std::vector<AddedToken> made;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const PieceType type = pieces[i].type;
    const bool special = type == PieceType::kControl || type == PieceType::kUnknown;
    if (pieces[i].text.empty() || !(special || (user_defined && type == PieceType::kUserDefined)))
      continue;
    AddedToken token;
    token.text = pieces[i].text;
    token.id = static_cast<int32_t>(i);
    token.special = special;
    made.push_back(std::move(token));
  }
  return made;
}

DecoderPtr decoder_of_pieces(bool drop_first_blank) {
  std::vector<DecoderPtr> parts;
  parts.push_back(decode_replace(std::string(kMetaspace), " "));
  parts.push_back(decode_byte_fallback());
  parts.push_back(decode_fuse());
  if (drop_first_blank) parts.push_back(decode_strip(" ", 1, 0));
  return decode_sequence(std::move(parts));
}

}  // namespace pith
