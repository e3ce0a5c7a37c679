// The operations that a forward pass is made of. The pass is written once (forward.h) against this
// interface; a backend executes it, and a calibrating executor wraps one and observes the inputs of
// linear layers.
//
// Activations are [m, n] matrices that the executor owns, one per Slot; asking for a slot again may
// reuse its memory. On the CPU they are f32. Operations are issued in order; read() waits for the
// result. One thread at a time per executor.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/function_ref.h"
#include "runtime/forward/kv_cache.h"
#include "runtime/forward/kv_types.h"
#include "runtime/forward/routing.h"
#include "runtime/forward/sampling.h"
#include "runtime/model/model.h"

namespace pith {

enum class Slot : uint8_t {
  kHidden,
  kNormed,
  kQuery,
  kKey,
  kValue,
  kAttentionOutput,
  kGate,
  kUp,
  kLast,
  kLogits,
  kBaseLogits,      // of the model that another is compared with
  kRouter,          // logits of an MoE router
  kExpertIo,        // input, then output of one expert
  kSublayerOutput,  // before its post-norm
  // MLA: queries and keys in the form that is cached, the attention output in the latent space, and
  // input and output of a per-head linear.
  kLatentQuery,
  kLatentKey,
  kLatentOut,
  kHeadInput,
  kHeadOutput,
  kCount
};

struct Activation {
  void* data = nullptr;
  int64_t m = 0, n = 0;

  Activation reshaped(int64_t rows, int64_t columns) const { return {data, rows, columns}; }
  float* f32() const { return static_cast<float*>(data); }
};

// Consecutive tokens of sequences in one pass: segment i has `count` tokens of sequence `slot` of
// the cache, at positions [begin, begin + count).
struct Segment {
  int slot = 0;
  int64_t begin = 0;
  int64_t count = 0;
  friend bool operator==(const Segment&, const Segment&) = default;
};
struct Batch {
  std::span<const int32_t> tokens;  // of all segments, in order
  std::span<const Segment> segments;
};

// Error(kUsage) where a token of the batch has no place in the cache, or one that another sequence
// sees.
void check_fits(const Batch& batch, const KvCache& cache);

// A row of logits against the token that followed.
struct RowScore {
  double log_sum = 0;     // of the exponentials of all logits
  float target = 0;       // logit of the token that followed
  int32_t top = 0;        // argmax, the first of equals
  double divergence = 0;  // KL(softmax(base) || softmax(this)), nats, where there is a base
};

// How a model will be used, for planning memory.
struct ModelUse {
  int slots = 1;
  int64_t length = 0;  // of the cache, tokens; 0: only the weights are known to be used
  KvTypes types = KvType::kF16;
  int64_t tokens = 0;       // of a pass, at most; 0: as many as serve the backend, and fit
  int64_t first_block = 0;  // only blocks from here on, and the head
  int64_t pages = 0;        // of the cache, as make_cache() has it
};
// The device memory that takes, in bytes.
struct MemoryPlan {
  uint64_t weights = 0, cache = 0, activations = 0;
  uint64_t loading = 0;    // besides the weights, while they are taken there
  uint64_t available = 0;  // 0: the backend has no memory of its own
  int64_t tokens = 0;      // of a pass, at most

  uint64_t needed() const { return weights + std::max(loading, cache + activations); }
};

class GpuDevice;

class Executor {
 public:
  static constexpr int64_t kPassTokens = 512;  // of a prompt that serve a processor

  virtual ~Executor() = default;

  virtual std::string description() const = 0;
  // Encodings that were multiplied without a kernel so far, decoded to f32: worth telling the user.
  virtual std::vector<std::string> fallbacks() const { return {}; }
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
  // The GPU that this executor works on, for what else is to be done there; null: none.
  virtual GpuDevice* gpu() { return nullptr; }
  virtual Activation buffer(Slot slot, int64_t m, int64_t n) = 0;
  // For `slots` sequences of up to `length` tokens, in `pages` pages (kv_pages.h; 0: all have theirs
  // from the start).
  virtual std::unique_ptr<KvCache> make_cache(const proto::ModelSpec& spec, int slots,
                                              int64_t length, KvTypes types, int64_t pages = 0) = 0;

  // x[i] = scale * row tokens[i] of the table
  virtual void embed(const Linear& table, std::span<const int32_t> tokens, float scale,
                     Activation x) = 0;
  // y[i] = norm(x[i]), x and y may be the same; or y[i] += that, and x is overwritten
  virtual void norm(const NormWeights& norm, Activation x, Activation y, bool add) = 0;
  // y = x W^T + bias, or y += that
  virtual void linear(const Linear& linear, Activation x, Activation y, bool add) = 0;
  // y = x W^T + bias of several linears of one input, in one go where the backend can.
  struct To {
    const Linear* linear;
    Activation y;
  };
  virtual void linears(Activation x, std::span<const To> all) {
    for (const auto& to : all) linear(*to.linear, x, to.y, false);
  }
  // y = norm(x) W^T + bias of several linears; `normed` is scratch for norm(x).
  virtual void norm_linears(const NormWeights& norm, Activation x, Activation normed,
                            std::span<const To> all) {
    this->norm(norm, x, normed, false);
    linears(normed, all);
  }
  // y (+)= (act(gate) * up) W^T + bias, or of act(gate) where up has no data; gate is overwritten.
  virtual void activate_linear(proto::Activation activation, Activation gate, Activation up,
                               const Linear& linear, Activation y, bool add) {
    activate(activation, gate, up);
    this->linear(linear, gate, y, add);
  }
  // Rotates each head of x [m, heads * head_dim] by its token's position.
  virtual void rope(const proto::Rope& rope, int64_t head_dim, const Batch& batch,
                    Activation x) = 0;
  // Appends k and v [m, kv_heads * head_dim] to sublayer `index` of the cache (counted over the
  // attentions of the model), then out[m, heads * head_dim] = softmax(q k^T * scale) v over the
  // cached tokens that each query sees; scores are capped where spec says so,
  // and `sinks` [heads] are attention sinks, an extra logit a head in the denominator of the
  // softmax (StreamingLLM, Xiao 2023), or empty.
  virtual void attention(const proto::Attention& spec, const FloatVector& sinks, int index,
                         const Batch& batch, KvCache& cache, Activation q, Activation k,
                         Activation v, Activation out) = 0;
  // The rest of an attention sublayer after its q, k and v projections: per-head norms of q and k,
  // RoPE, attention, and the output projection, y (+)= attention(q, k, v) W_o^T + bias. q and k are
  // overwritten; `attended` is scratch for the attention output.
  virtual void attention_linear(const proto::Attention& spec, const AttentionWeights& weights,
                                int index, const Batch& batch, KvCache& cache, Activation q,
                                Activation k, Activation v, Activation attended, Activation y,
                                bool add);
  // The same for MLA (DeepSeek-V2, 2024, section 2.1): q [m, heads * head_dim], and kv
  // [m, rank + rope.dims], the output of kv_a_proj_with_mqa (latent vector, then rotary key). Both
  // are overwritten; `attended` is [m, heads * value_dim]. The cache holds cached_form(): W_UK
  // (k_up) is absorbed into the queries, W_UV (v_up) is applied to the attention output.
  virtual void latent_linear(const proto::Attention& spec, const AttentionWeights& weights,
                             int index, const Batch& batch, KvCache& cache, Activation q,
                             Activation kv, Activation attended, Activation y, bool add);
  // Per-head linears: y[:, h, to:] = linears[h](x[:, h, from:]), x and y split into as many heads
  // as there are linears.
  virtual void by_head(std::span<const Linear> linears, Activation x, int64_t from, Activation y,
                       int64_t to);
  // y += the output of the routed experts of an MoE layer (not of the shared expert). Here expert
  // by expert, over the rows that chose it; `y` is summed in the order of experts.
  virtual void moe(const proto::Moe& spec, const MoeWeights& weights, Activation x, Activation y);
  // gate = act(gate) * up, or act(gate) where up has no data
  virtual void activate(proto::Activation activation, Activation gate, Activation up) = 0;
  // x = limit tanh(x / limit)
  virtual void cap(Activation x, float limit) = 0;
  // y[i] = x[rows[i]]
  virtual void gather(Activation x, std::span<const int64_t> rows, Activation y) = 0;
  // y[rows[i]] += weights[i] * x[i], for rows that differ
  virtual void add_rows(Activation x, std::span<const int64_t> rows, std::span<const float> weights,
                        Activation y) = 0;
  // y[i] += sigmoid(gate[i]) * x[i], gate [m, 1]
  virtual void add_gated(Activation x, Activation gate, Activation y) = 0;
  // y[i, to + j] = x[i, from + j] for j < count
  virtual void copy_columns(Activation x, int64_t from, Activation y, int64_t to,
                            int64_t count) = 0;
  // body(), which is one pass over a model with this batch, cache and rows of hidden states that go
  // on to the head; the same model each time with the same cache. A backend may do what it
  // recorded of an earlier pass of the same shape instead.
  virtual Activation pass(const Batch&, KvCache&, std::span<const int64_t>,
                          FunctionRef<Activation()> body) {
    return body();
  }
  // Top-k of each row of logits [m, vocab] (likeliest() of runtime/forward/sampling.h): to is
  // [m, k], k <= kMostCandidates.
  static constexpr size_t kMostCandidates = 256;
  virtual void top(Activation logits, std::span<Candidate> to);
  // mass_behind() of runtime/forward/sampling.h, of one row of logits [m, vocab].
  virtual double mass_behind(Activation logits, int64_t row, const Candidate& top,
                             const Candidate& last, double temperature);
  // Of each row of logits [m, vocab]. base: logits of the same shape, of which `base_scores` are
  // known; no data: none.
  virtual void score(Activation logits, std::span<const int32_t> targets, Activation base,
                     std::span<const RowScore> base_scores, std::span<RowScore> to) = 0;
  virtual void read(Activation x, std::span<float> to) = 0;
  virtual void write(std::span<const float> from, Activation x) = 0;
  // Returns when all that was asked for is done.
  virtual void wait() {}

 protected:
  // The steps of moe().
  std::vector<ExpertTokens> route_rows(const proto::Moe& spec, const MoeWeights& weights,
                                       Activation x);
  void run_expert(const proto::Mlp& spec, const MlpWeights& weights, const ExpertTokens& tokens,
                  Activation x, Activation y);
};

// Weights that are used again and again are uploaded once while this lives.
class WeightCacheScope {
 public:
  explicit WeightCacheScope(Executor& executor) : executor_(executor) {
    executor_.open_weight_scope();
  }
  ~WeightCacheScope() { executor_.close_weight_scope(); }
  WeightCacheScope(const WeightCacheScope&) = delete;

 private:
  Executor& executor_;
};

}  // namespace pith
