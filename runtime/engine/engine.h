// Generation of one sequence: a model runner and one slot of its cache.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/function_ref.h"
#include "runtime/engine/model_runner.h"

namespace pith {

struct GenerateResult {
  std::string text;
  std::vector<int32_t> tokens;
  std::string finish;  // as Sequence::finish() has it
  double prefill_seconds = 0, decode_seconds = 0;
  int64_t prefill_tokens = 0;
};

class Engine {
 public:
  Engine(const ModelSource& source, const RunnerOptions& options)
      : cancel_(options.cancel), runner_(source, options) {}

  const Model& model() const { return runner_.model(); }
  Executor& executor() { return runner_.executor(); }
  int64_t context() const { return runner_.context(); }
  const MemoryPlan& memory() const { return runner_.memory(); }

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
  // The same as extend(), left where it was computed.
  Tensor run(std::span<const int32_t> tokens);

  const CancelToken& cancel_;
  ModelRunner runner_;
  int64_t position_ = 0;
};

}  // namespace pith
