// Unigram language model: the segmentation of greatest total score, found by Viterbi in O(bytes *
// longest piece). A character that no piece covers alone costs the smallest score less 10 and is
// unknown; neighbouring unknown characters are one unknown, or their "<0xHH>" tokens.
//
// Kudo 2018, https://arxiv.org/abs/1804.10959
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/tokenizer/model.h"
#include "formats/tokenizer/vocabulary.h"

namespace pith {

struct UnigramOptions {
  std::vector<double> scores;  // by id, finite
  std::vector<bool>
      usable;  // by id; control, unknown, unused and byte tokens of SentencePiece are not
  std::vector<bool> user_defined;  // by id: preferred over everything they overlap
  int32_t unknown = -1;            // -1: text with unknown characters is Error(kUnsupported)
  bool byte_fallback = false;
  bool single_precision = false;  // add scores as SentencePiece does, in f32
};

std::unique_ptr<TokenModel> make_unigram(std::shared_ptr<const Vocabulary> vocabulary,
                                         UnigramOptions options, const std::string& file);

}  // namespace pith
