// Who executes the operations of a forward pass. The pass is written once (forward.h) as operations
// with names (ops.h); a backend runs them, and what observes or changes them on the way (capture of
// inputs, rounding to bf16, a tape) wraps a backend: forwarding_executor.h.
//
// Activations are matrices that the executor owns, one per TensorId, f32. Operations are done in
// order; read() waits for the result. One thread at a time per executor.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/function_ref.h"
#include "core/matrix.h"
#include "runtime/forward/ops.h"
#include "runtime/forward/sampling.h"
#include "runtime/model/model.h"

namespace pith {

// A row of logits against the token that followed.
struct RowScore {
  double log_sum = 0;     // of the exponentials of all logits
  float target = 0;       // logit of the token that followed
  int32_t top = 0;        // argmax, the first of equals
  double divergence = 0;  // KL(softmax(base) || softmax(this)), nats, where there is a base
};

// How a model will be used, for planning memory.
struct ModelUse {
  KvConfig cache = {};      // of length 0: only the weights are known to be used
  int64_t tokens = 0;       // of a pass, at most; 0: as many as serve the backend, and fit
  int64_t first_block = 0;  // only blocks from here on, and the head
};
// The device memory that takes, in bytes.
struct MemoryPlan {
  uint64_t weights = 0, cache = 0, activations = 0;
  uint64_t loading = 0;    // besides the weights, while they are taken there
  uint64_t available = 0;  // 0: the backend has no memory of its own
  int64_t tokens = 0;      // of a pass, at most

  uint64_t needed() const { return weights + std::max(loading, cache + activations); }
};

class Algebra;

// The weights of models and KV caches where an executor has them.
class ModelMemory {
 public:
  static constexpr int64_t kPassTokens = 512;  // of a prompt that serve a processor

  virtual ~ModelMemory() = default;
  // The weights of this model will be used where they lie, until the executor ends: a backend with
  // memory of its own takes them there once. Error(kMemory) with the numbers where that has too
  // little.
  virtual MemoryPlan prepare(const Model&, const ModelUse& use = {}) {
    return {.tokens = use.tokens > 0 ? use.tokens : kPassTokens};
  }
  // While a scope is open (WeightCacheScope) a backend with memory of its own keeps what it uploads
  // of weights that prepare() has not seen; closing frees what was uploaded in it.
  virtual void open_weight_scope() {}
  virtual void close_weight_scope() {}
  std::unique_ptr<KvCache> make_cache(const proto::ModelSpec& spec, const KvConfig& config) {
    return std::make_unique<KvCache>(
        config, [&](const KvPages& pages) { return make_kv_storage(spec, config.types, pages); });
  }
  // Keys and values of the attention layers of `spec`, at the places of `pages`, which outlive
  // them.
  virtual std::unique_ptr<KvStorage> make_kv_storage(const proto::ModelSpec& spec, KvTypes types,
                                                     const KvPages& pages) = 0;
};

// What the host asks of logits, answered where they are.
class LogitsQueries {
 public:
  static constexpr size_t kMaxCandidates = 256;

  virtual ~LogitsQueries() = default;
  // Top-k of each row of logits [m, vocab] (likeliest() of runtime/forward/sampling.h): to is
  // [m, k], k <= kMaxCandidates.
  virtual void top(Tensor logits, std::span<Candidate> to) = 0;
  // mass_behind() of runtime/forward/sampling.h, of one row of logits [m, vocab].
  virtual double mass_behind(Tensor logits, int64_t row, const Candidate& top,
                             const Candidate& last, double temperature) = 0;
  // Scores each row of logits [m, vocab]. base: logits of the same shape, whose `base_scores` are
  // known; absent: none.
  virtual void score(Tensor logits, std::span<const int32_t> targets, Tensor base,
                     std::span<const RowScore> base_scores, std::span<RowScore> to) = 0;
};

class Executor : public ModelMemory, public LogitsQueries {
 public:
  virtual std::string description() const = 0;
  // Encodings that were multiplied without a kernel so far, decoded to f32: worth telling the user.
  virtual std::vector<std::string> fallbacks() const { return {}; }
  // Linear algebra in the memory that view() shows.
  virtual Algebra& algebra() = 0;

  // Memory for a tensor. Its numbers are undefined where it is larger than before, else they stay.
  virtual Tensor buffer(TensorId id, int64_t m, int64_t n) = 0;
  // Where a tensor lies, contiguous, in the memory of algebra(), until its buffer grows or the next
  // operation runs; empty where it is absent. For work beside the operations.
  virtual MatrixRef<float> view(Tensor x) = 0;
  virtual void run(const Op& op) = 0;
  // Runs body(), which is one pass over a model with this batch, cache and rows of hidden states
  // that go on to the head; the same model each time with the same cache. A GPU may replay a CUDA
  // graph of an earlier pass of the same shape instead.
  virtual Tensor pass(const Batch&, KvStorage&, std::span<const int64_t>,
                      FunctionRef<Tensor()> body) {
    return body();
  }
  virtual void read(Tensor x, std::span<float> to) = 0;
  virtual void write(std::span<const float> from, Tensor x) = 0;
  // Returns when all that was asked for is done.
  virtual void wait() {}
};

// Weights that are used again and again are uploaded once while this lives.
class WeightCacheScope {
 public:
  explicit WeightCacheScope(ModelMemory& memory) : memory_(memory) { memory_.open_weight_scope(); }
  ~WeightCacheScope() { memory_.close_weight_scope(); }
  WeightCacheScope(const WeightCacheScope&) = delete;

 private:
  ModelMemory& memory_;
};

}  // namespace pith
