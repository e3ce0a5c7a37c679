// A loaded model that generates text.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/function_ref.h"
#include "formats/tokenizer/tokenizer.h"
#include "runtime/backends.h"
#include "runtime/forward/executor.h"
#include "runtime/forward/sampling.h"
#include "runtime/model/source.h"

namespace pith {

struct EngineOptions {
  int64_t context = 0;  // tokens of the cache; 0: the model's own, at most 4096
  KvTypes cache = KvType::kF16;
  int64_t prefill_chunk = 0;  // tokens; 0: as many as serve the backend
  ExecutorChoice executor = {};
};

struct GenerateOptions {
  int64_t max_tokens = 256;  // below 0: until the context is full
  SamplingOptions sampling;
  std::vector<std::string> stop;    // texts or special tokens that end the answer, not shown
  bool ignore_stop_tokens = false;  // except those that `stop` names
  bool continues_prompt = false;    // the text goes on from the prompt's; else it stands alone
};

struct GenerateResult {
  std::string text;
  std::vector<int32_t> tokens;
  std::string finish;  // "stop", "length", "context", "cancelled"
  double prefill_seconds = 0, decode_seconds = 0;
  int64_t prefill_tokens = 0;
};

class Engine {
 public:
  Engine(const ModelSource& source, const EngineOptions& options);

  const Model& model() const { return model_; }
  Executor& executor() { return *executor_; }
  KvCache& cache() { return *cache_; }
  int64_t context() const { return cache_->length(); }
  const MemoryPlan& memory() const { return memory_; }

  // Runs tokens at the end of the sequence so far and returns the logits [vocab] behind the last.
  std::vector<float> extend(std::span<const int32_t> tokens);
  void rewind(int64_t position);  // forget all but the first tokens
  int64_t position() const { return position_; }

  // Continues after `prompt`, which is appended to the sequence so far. `show` gets the text piece
  // by piece and ends the generation by returning false.
  GenerateResult generate(const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                          const GenerateOptions& options,
                          FunctionRef<bool(const std::string&)> show);

 private:
  // The same, left where it was computed.
  Tensor run(std::span<const int32_t> tokens);
  int32_t choose(Sampler& sampler, Tensor logits, std::span<const int32_t> history);

  Model model_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<KvCache> cache_;
  MemoryPlan memory_;
  int64_t position_ = 0;
};

}  // namespace pith
