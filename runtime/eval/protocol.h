// Which tokens of a text are scored, and in which windows. A perplexity without its protocol means
// nothing, so the name of the protocol goes with every figure.
//
//   gptq-N       the text as rows joined by blank lines, tokenized once (BOS only at the very start
//   if the tokenizer adds one); windows of N
//                that do not overlap, the tail dropped; all shifted tokens scored         (GPTQ,
//                OmniQuant, llm-compressor: N = 2048)
//   llama-N      the file tokenized once; windows of N, the first token of each replaced by BOS if
//   the tokenizer adds one; the second
//                half scored: positions N/2 to N-2 (llama.cpp: N = 512)
//   paragraph-N  each non-empty line (CR removed, ends stripped) alone; windows of N-1 tokens, each
//   after a BOS; all scored
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/tokenizer/tokenizer.h"

namespace pith {

struct Window {
  std::vector<int32_t> tokens;
  int64_t first_scored = 0;  // positions [first_scored, size - 1) predict their next token

  int64_t scored() const { return static_cast<int64_t>(tokens.size()) - 1 - first_scored; }
};

struct Protocol {
  enum class Kind { kGptq, kLlama, kParagraph };
  Kind kind = Kind::kGptq;
  int64_t context = 2048;

  std::string name() const;
};

// "gptq-2048", "llama-512", "paragraph" (N: the model's context). Error(kUsage) for others, and
// where N exceeds the model's context.
Protocol parse_protocol(std::string_view name, int64_t model_context);

// Windows of the text; `bos` is what begins a window, -1 for none. Error(kUsage) where the text is
// too short for one.
std::vector<Window> make_windows(const Protocol& protocol, const Tokenizer& tokenizer,
                                 std::string_view text, int32_t bos);

}  // namespace pith
