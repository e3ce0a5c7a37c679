// Which tokens of a text are scored, and in which windows. A perplexity without its protocol means
// nothing, so the name of the protocol goes with every figure.
//
//   text-N       The default: the file as it is, tokenized once, every token scored once. A window
//                has N tokens (the last one what is left): a BOS where the tokenizer adds one,
//                tokens that the window before has scored, and `stride` tokens that it scores
//                itself. Without a stride in the name a window scores as many as it can: N - 1, the
//                first of them from the BOS or from the last token of the window before. The very
//                first token of the text is scored only behind a BOS. text-N-stride-S is the
//                sliding window of transformers' documentation.
//   gptq-N       WikiText's: lines are the rows of the data set, which are joined by blank lines,
//                tokenized once (BOS only at the very start if the tokenizer adds one); windows of
//                N that do not overlap, the tail dropped; all shifted tokens scored (GPTQ,
//                OmniQuant, llm-compressor: N = 2048)
//   llama-N      the file as it is, tokenized once; windows of N, the first token of each replaced
//                by BOS if the tokenizer adds one, the tail dropped; the second half scored:
//                positions N/2 to N-2 (llama.cpp: N = 512)
//   paragraph-N  each non-empty line (CR removed, ends stripped) alone; windows of N-1 tokens, each
//                after a BOS; all scored
#pragma once

#include <cstdint>
#include <span>
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
  enum class Kind { kText, kGptq, kLlama, kParagraph };
  Kind kind = Kind::kText;
  int64_t context = 2048;
  int64_t stride = 0;  // of kText; 0: none

  std::string name() const;
  // How it splits the text, in a few words for the line that is printed.
  const char* summary() const;
};

// "text" (N: 2048, or the model's context where that is less), "gptq-2048", "llama-512",
// "paragraph" (N: the model's context), "text-512-stride-256". Error(kUsage) for others, and where
// N exceeds the model's context.
Protocol parse_protocol(std::string_view name, int64_t model_context);

// Windows of the text; `bos` is what begins a window, -1 for none. Error(kUsage) where the text is
// too short for one.
std::vector<Window> make_windows(const Protocol& protocol, const Tokenizer& tokenizer,
                                 std::string_view text, int32_t bos);

// The windows of text-N, of tokens without a BOS before them.
std::vector<Window> text_windows(const Protocol& protocol, std::span<const int32_t> tokens,
                                 int32_t bos);

// Whether a text has headings like WikiText's rows (" = Name = "), for which gptq-N is made.
bool looks_like_wikitext(std::string_view text);

}  // namespace pith
