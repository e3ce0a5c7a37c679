// A loaded model with its backend and a paged KV cache: a batch goes in, logits come out. Many
// sequences share it; who stands in which slot of the cache, and when pages run out, is the
// caller's (Engine for one sequence, a scheduler for many):
//
//   while (!runner.cache().reserve(slot, position + n)) preempt(another);   // truncate() its slot
//   runner.run({tokens, {{slot, position, n}, ...}}, rows)
//   runner.sample(logits, sequences, next)
//
// Shared prefixes: KvCache::fork(). Speculative decoding: a segment of k + 1 tokens, all of whose
// rows go to the head, then KvCache::truncate() to the accepted ones; the draft model is a runner
// of its own. One thread at a time.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/cancel.h"
#include "runtime/backends.h"
#include "runtime/engine/sequence.h"
#include "runtime/forward/executor.h"
#include "runtime/model/source.h"

namespace pith {

struct RunnerOptions {
  int64_t context = 0;  // tokens of a sequence; 0: the model's own, at most 4096
  KvTypes cache = NumberFormat::kF16;
  int64_t prefill_chunk = 0;  // tokens of a pass; 0: as many as serve the backend
  ExecutorChoice executor = {};
  int sequences = 1;         // slots of the cache
  int64_t cache_tokens = 0;  // of all sequences together; 0: of each its whole context
  const CancelToken& cancel = CancelToken::never();
};

class ModelRunner {
 public:
  ModelRunner(const ModelSource& source, const RunnerOptions& options);
  // Over another executor than options.executor names.
  ModelRunner(const ModelSource& source, std::unique_ptr<Executor> executor,
              const RunnerOptions& options);

  const Model& model() const { return model_; }
  Executor& executor() { return *executor_; }
  KvCache& cache() { return *cache_; }
  int64_t context() const { return cache_->length(); }
  const MemoryPlan& memory() const { return memory_; }

  // One pass over tokens whose places are reserved, at most memory().tokens of them. Logits
  // [rows.size(), vocab] of these rows of the batch, where they were computed; without rows none.
  // Error(kUsage) where a token is not in the vocabulary or has no place.
  Tensor run(const Batch& batch, std::span<const int64_t> rows);

  // The next token of the sequence of each row of logits, by its sampler: from the top-k alone
  // where they are enough, which a backend finds where the logits lie.
  void sample(Tensor logits, std::span<Sequence* const> sequences, std::span<int32_t> next);

 private:
  Model model_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<KvCache> cache_;
  MemoryPlan memory_;
  const CancelToken& cancel_;
};

}  // namespace pith
