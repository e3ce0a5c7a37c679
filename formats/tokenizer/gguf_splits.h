// How vocabularies of kind "gpt2" in GGUF files split text: a key (tokenizer.ggml.pre) names
// regular expressions that are applied one after the other, each to the pieces of the one before.
// The names are llama.cpp's; a name that is not in the table is refused, since a wrong split would
// go unnoticed.
#pragma once

#include <span>
#include <string_view>

namespace pith {

struct GgufSplit {
  std::string_view name;
  std::span<const std::string_view> patterns;
  bool ignore_merges = false;  // a word that is a token is that token
  bool adds_bos = false;       // where the file does not say
};

std::span<const GgufSplit> gguf_splits();
const GgufSplit* find_gguf_split(std::string_view name);  // nullptr where unknown

}  // namespace pith
