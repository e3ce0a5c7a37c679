// A tokenizer.json of letters, for tests that need a vocabulary and not a certain one: ids 0 to 2
// are <unk>, <s> and </s>, then come "a" to "z", a blank and a line break, and from 31 on whatever
// else is asked for. No normalizer, no merges; decoding joins.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"

namespace pith::test {

inline constexpr int kTinyTokens = 31;

inline Json tiny_added_token(const std::string& text, int id, bool special = true,
                             bool normalized = false) {
  return {{"id", id},        {"content", text},    {"single_word", false},    {"lstrip", false},
          {"rstrip", false}, {"special", special}, {"normalized", normalized}};
}

inline Json tiny_tokenizer(const std::vector<std::string>& special = {}, bool normalized = false) {
  Json vocab = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  int next = 3;
  for (char c = 'a'; c <= 'z'; ++c) vocab[std::string(1, c)] = next++;
  vocab[" "] = next++;
  vocab["\n"] = next++;
  Json added = Json::array();
  for (int i = 0; i < 3; ++i)
    added.push_back(tiny_added_token(i == 0   ? "<unk>"
                                     : i == 1 ? "<s>"
                                              : "</s>",
                                     i, true, normalized));
  for (const auto& text : special)
    added.push_back(tiny_added_token(text, next++, true, normalized));
  return {{"added_tokens", added},
          {"normalizer", nullptr},
          {"pre_tokenizer", nullptr},
          {"post_processor", nullptr},
          {"decoder", {{"type", "Fuse"}}},
          {"model",
           {{"type", "BPE"}, {"unk_token", "<unk>"}, {"vocab", vocab}, {"merges", Json::array()}}}};
}

}  // namespace pith::test
