// One sequence that a model writes: its tokens, how the next is chosen, when it ends, and the text
// that can be shown. Knows no model and no cache: a runner computes, a sequence decides.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "formats/tokenizer/tokenizer.h"
#include "runtime/forward/sampling.h"
#include "runtime/model/spec.h"

namespace pith {

struct GenerateOptions {
  int64_t max_tokens = 256;  // below 0: until the context is full
  SamplingOptions sampling;
  std::vector<std::string> stop;    // texts or special tokens that end the answer, not shown
  bool ignore_stop_tokens = false;  // except those that `stop` names
  bool continues_prompt = false;    // the text goes on from the prompt's; else it stands alone
};

class Sequence {
 public:
  // The tokenizer outlives it.
  Sequence(const proto::ModelSpec& spec, const Tokenizer& tokenizer,
           std::span<const int32_t> prompt, const GenerateOptions& options);

  // Prompt and answer so far, of which the answer begins at prompt_tokens().
  std::span<const int32_t> history() const { return history_; }
  int64_t prompt_tokens() const { return prompt_tokens_; }
  std::span<const int32_t> answer() const {
    return history().subspan(static_cast<size_t>(prompt_tokens_));
  }
  Sampler& sampler() { return sampler_; }

  // The next token; `full`: the context has no place behind it. Returns the text that can be shown
  // now, which may be none: a beginning of a stop text is kept back until it is none.
  std::string push(int32_t token, bool full);
  // Ends it as it is.
  void end(const std::string& why) { finish_ = why; }

  bool ended() const { return !finish_.empty(); }
  const std::string& finish() const { return finish_; }  // "stop", "length", "context", "cancelled"
  const std::string& text() const { return text_; }      // without stop texts

 private:
  bool append(const std::string& piece);
  size_t showable() const;
  std::string show(size_t end);

  const GenerateOptions options_;
  const int64_t prompt_tokens_;
  std::vector<int32_t> history_, stops_;
  Sampler sampler_;
  StreamDecoder decoder_;
  std::string text_, finish_;
  size_t shown_ = 0;
};

}  // namespace pith
