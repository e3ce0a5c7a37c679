// Byte-pair encoding: the cheapest mergeable pair of neighbours is merged, the leftmost of equals
// first, until none is left.
//
// Ranked (GPT-2, Hugging Face): pairs of ids with a rank and a result. Scored (SentencePiece,
// llama2.c): two neighbours merge where their joint text is a token, the highest score first. Both
// cost O(n log n): a heap of candidate pairs over a linked list of symbols; an entry whose pair has
// changed since is dropped when it surfaces.
//
// Sennrich et al. 2016 (https://arxiv.org/abs/1508.07909); Kudo and Richardson 2018
// (https://arxiv.org/abs/1808.06226).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/tokenizer/byte_trie.h"
#include "formats/tokenizer/model.h"
#include "formats/tokenizer/vocabulary.h"

namespace pith {

struct BpeOptions {
  int32_t unknown = -1;            // id for what is not in the vocabulary; -1: left out
  std::string missing_unknown;     // set: the file names a token for it that is not there either
  bool fuse_unknown = false;       // one id for a run of unknown characters
  bool byte_fallback = false;      // "<0xHH>" tokens for unknown characters, where all are there
  bool ignore_merges = false;      // a word that is a token is that token
  std::string continuing_prefix;   // before every character of a word but the first
  std::string end_of_word_suffix;  // behind the last character
};

// From pairs of token texts in order of rank. Error(kCorrupt) where a part or a result is not in
// the vocabulary.
std::unique_ptr<TokenModel> make_ranked_bpe(
    std::shared_ptr<const Vocabulary> vocabulary,
    const std::vector<std::pair<std::string, std::string>>& merges, const BpeOptions& options,
    const std::string& file);

struct ScoredBpeVocabulary {
  std::vector<float> scores;    // by id
  std::vector<bool> mergeable;  // ids that merges may produce; control and byte tokens are not
  std::vector<bool> unused;     // ids that merges may pass through but that are taken apart again
  std::vector<int32_t> frozen;  // user-defined tokens: matched first, never merged
  bool freeze_unknown = false;  // an unknown character never merges (llama2.c)
};
std::unique_ptr<TokenModel> make_scored_bpe(std::shared_ptr<const Vocabulary> vocabulary,
                                            ScoredBpeVocabulary scored, const BpeOptions& options);

}  // namespace pith
