// The operations of a forward pass as values: a small struct each, with named fields. Tensors are
// names (tensor.h); weights, specs, tokens and segments are referred to and must outlive the use of
// an operation. So a list of primitives can be kept and run again: the tape of a backward pass.
//
// A primitive does one thing, and every executor has it. A composite is what a backend may do in
// one go; it is defined by its expansion into primitives (expand.h), which is what everything else
// does: what derives from ForwardingExecutor sees primitives alone.
//
// A new operation is a struct here, its name in `Op`, and its execution on each backend (of a
// composite: its expand(), and nothing else is required). What wraps an executor asks each_tensor()
// and each_linear(), never which operation it is.
#pragma once

#include <array>
#include <span>
#include <variant>
#include <vector>

#include "runtime/forward/batch.h"
#include "runtime/forward/tensor.h"
#include "runtime/model/model.h"

namespace pith {

// What an operation does to a tensor.
enum class Access : uint8_t {
  kRead,
  kWrite,    // all of it, whatever was there
  kUpdate,   // reads it, and writes all or some of it
  kConsume,  // reads it; its numbers are undefined afterwards
};
constexpr bool writes(Access a) { return a == Access::kWrite || a == Access::kUpdate; }
constexpr Access written(bool accumulate) { return accumulate ? Access::kUpdate : Access::kWrite; }

// ---- primitives

// x[i] = scale * row tokens[i] of the table; x [tokens.size(), table.k]
struct EmbedOp {
  const Linear* table;
  std::span<const int32_t> tokens;
  float scale;
  Tensor x;

  template <class F>
  void each_tensor(F f) const {
    f(x, Access::kWrite);
  }
  template <class F>
  void each_linear(F f) const {
    f(*table);
  }
};

// y[i] (+)= norm(x[i]) by rows; x and y may be the same, unless it accumulates
struct NormOp {
  const NormWeights* norm;
  Tensor x, y;
  bool accumulate = false;

  template <class F>
  void each_tensor(F f) const {
    f(x, accumulate ? Access::kConsume : Access::kRead);
    f(y, written(accumulate));
  }
};

// y[m, n] (+)= x[m, k] W^T + bias, over all terms of the linear
struct LinearOp {
  const Linear* linear;
  Tensor x, y;
  bool accumulate = false;

  template <class F>
  void each_tensor(F f) const {
    f(x, Access::kRead);
    f(y, written(accumulate));
  }
  template <class F>
  void each_linear(F f) const {
    f(*linear);
  }
};

// Rotates each head of x [m, heads * head_dim] by its token's position (RoPE, Su 2021).
struct RopeOp {
  const proto::Rope* rope;
  int64_t head_dim;
  Batch batch;
  Tensor x;

  template <class F>
  void each_tensor(F f) const {
    f(x, Access::kUpdate);
  }
};

// The numbers that softmax attention takes from its spec.
struct AttentionShape {
  int64_t heads, kv_heads, head_dim;
  int64_t window;    // keys that a query sees, itself included; 0: all
  double scale;      // of scores
  double score_cap;  // scores become cap tanh(score / cap); 0: they stay
};
// For MLA that of the cached form: one key of rank + rope.dims numbers for all heads.
AttentionShape attention_shape(const proto::Attention& spec);

// Writes k and v [m, kv_heads * head_dim] to the KV cache, at the places of the batch's tokens.
struct StoreKvOp {
  KvLayer cache;
  Batch batch;
  Tensor k, v;

  template <class F>
  void each_tensor(F f) const {
    f(k, Access::kRead);
    f(v, Access::kRead);
  }
};

// out[m, heads * head_dim] = softmax(q k^T * scale) v over the keys and values in the KV cache that
// each query sees (causal): those of its own batch were stored before, by the StoreKvOp of the same
// layer, which is where a tape has k and v by name. `sinks` [heads] are attention sinks, an extra
// logit a head in the denominator of the softmax (StreamingLLM, Xiao 2023); null or empty: none.
// The executor may overwrite q.
struct AttentionOp {
  AttentionShape shape;
  const FloatVector* sinks;
  KvLayer cache;
  Batch batch;
  Tensor q, out;

  template <class F>
  void each_tensor(F f) const {
    f(q, Access::kConsume);
    f(out, Access::kWrite);
  }
};

// gate = act(gate) * up, or act(gate) where `up` is absent
struct ActivateOp {
  proto::Activation activation;
  Tensor gate, up;

  template <class F>
  void each_tensor(F f) const {
    if (up) f(up, Access::kRead);
    f(gate, Access::kUpdate);
  }
};

// x = limit tanh(x / limit)
struct CapOp {
  float limit;
  Tensor x;

  template <class F>
  void each_tensor(F f) const {
    f(x, Access::kUpdate);
  }
};

// y[i] = x[rows[i]]
struct GatherOp {
  Tensor x;
  std::vector<int64_t> rows;
  Tensor y;

  template <class F>
  void each_tensor(F f) const {
    f(x, Access::kRead);
    f(y, Access::kWrite);
  }
};

// weights[m, experts] of a router's logits [m, experts]: positive for the experts that a token goes
// to, else 0 (routing.h has the rules). `choice_bias` [experts] counts in the choice alone; may be
// empty.
struct RouteOp {
  const proto::Moe* spec;
  const FloatVector* choice_bias;
  Tensor logits, weights;

  template <class F>
  void each_tensor(F f) const {
    f(logits, Access::kRead);
    f(weights, Access::kWrite);
  }
};

// y[rows[i]] += weights[rows[i], column] * x[i], for rows that differ
struct AddRowsOp {
  Tensor x;
  std::vector<int64_t> rows;
  Tensor weights;
  int64_t column;
  Tensor y;

  template <class F>
  void each_tensor(F f) const {
    f(x, Access::kRead);
    f(weights, Access::kRead);
    f(y, Access::kUpdate);
  }
};

// y[i] += sigmoid(gate[i]) * x[i]; gate [m, 1]
struct AddGatedOp {
  Tensor x, gate, y;

  template <class F>
  void each_tensor(F f) const {
    f(x, Access::kRead);
    f(gate, Access::kRead);
    f(y, Access::kUpdate);
  }
};

// y[i, to + j] = x[i, from + j] for j < count
struct CopyColumnsOp {
  Tensor x;
  int64_t from;
  Tensor y;
  int64_t to, count;

  template <class F>
  void each_tensor(F f) const {
    f(x, Access::kRead);
    f(y, Access::kUpdate);
  }
};

// ---- composites

struct LinearTo {
  const Linear* linear = nullptr;
  Tensor y;
};

// y = norm(x) W^T + bias of up to three linears of one input (q k v; gate up). Without a norm they
// take x as it is. `normed` is scratch for norm(x), absent where there is no norm.
struct LinearsOp {
  const NormWeights* norm;  // or null
  Tensor x, normed;
  std::array<LinearTo, 3> to;  // those that are there come first

  std::span<const LinearTo> targets() const {
    size_t count = 0;
    while (count < to.size() && to[count].linear != nullptr) ++count;
    return std::span(to).first(count);
  }
  template <class F>
  void each_tensor(F f) const {
    f(x, Access::kRead);
    if (normed) f(normed, Access::kWrite);
    for (const LinearTo& t : targets()) f(t.y, Access::kWrite);
  }
  template <class F>
  void each_linear(F f) const {
    for (const LinearTo& t : targets()) f(*t.linear);
  }
};

// y (+)= (act(gate) * up) W^T + bias, or of act(gate) where `up` is absent: the end of an MLP.
struct ActivateLinearOp {
  proto::Activation activation;
  Tensor gate, up;
  const Linear* linear;
  Tensor y;
  bool accumulate;

  template <class F>
  void each_tensor(F f) const {
    f(gate, Access::kConsume);
    if (up) f(up, Access::kRead);
    f(y, written(accumulate));
  }
  template <class F>
  void each_linear(F f) const {
    f(*linear);
  }
};

// The rest of an attention sublayer after its q, k and v projections: per-head norms of q and k,
// RoPE, the KV cache, attention, and the output projection, y (+)= attention(q, k, v) W_o^T + bias.
// `attended` is scratch for the attention output.
struct AttentionLinearOp {
  const proto::Attention* spec;
  const AttentionWeights* weights;
  KvLayer cache;
  Batch batch;
  Tensor q, k, v, attended, y;
  bool accumulate;

  template <class F>
  void each_tensor(F f) const {
    f(q, Access::kConsume);
    f(k, Access::kConsume);
    f(v, Access::kRead);
    f(attended, Access::kWrite);
    f(y, written(accumulate));
  }
  template <class F>
  void each_linear(F f) const {
    f(weights->o);
  }
};

// Per-head linears: y[:, h, to:] = linears[h](x[:, h, from:]), x and y split into as many heads as
// there are linears.
struct HeadLinearsOp {
  std::span<const Linear> linears;
  Tensor x;
  int64_t from;
  Tensor y;
  int64_t to;

  template <class F>
  void each_tensor(F f) const {
    f(x, Access::kRead);
    f(y, Access::kUpdate);
  }
  template <class F>
  void each_linear(F f) const {
    for (const Linear& l : linears) f(l);
  }
};

// The rest of MLA (DeepSeek-V2, 2024, section 2.1) after its projections: q [m, heads * head_dim],
// and kv [m, rank + rope.dims], the output of kv_a_proj_with_mqa (latent vector, then rotary key).
// `attended` [m, heads * value_dim] is scratch. The cache holds absorbed_form(): W_UK (k_up) is
// absorbed into the queries, W_UV (v_up) is applied to the attention output.
struct LatentAttentionOp {
  const proto::Attention* spec;
  const AttentionWeights* weights;
  KvLayer cache;
  Batch batch;
  Tensor q, kv, attended, y;
  bool accumulate;

  template <class F>
  void each_tensor(F f) const {
    f(q, Access::kConsume);
    f(kv, Access::kConsume);
    f(attended, Access::kWrite);
    f(y, written(accumulate));
  }
  template <class F>
  void each_linear(F f) const {
    for (const Linear& l : weights->latent->k_up) f(l);
    for (const Linear& l : weights->latent->v_up) f(l);
    f(weights->o);
  }
};

// y += the output of the routed experts of an MoE layer (not of the shared expert) for x. By
// primitives expert by expert, over the rows that chose it, in the order of experts.
struct MoeOp {
  const proto::Moe* spec;
  const MoeWeights* weights;
  Tensor x, y;

  template <class F>
  void each_tensor(F f) const {
    f(x, Access::kRead);
    f(y, Access::kUpdate);
  }
  template <class F>
  void each_linear(F f) const {
    f(weights->router);
    for (const MlpWeights& e : weights->experts) {
      if (spec->expert().gated()) f(e.gate);
      f(e.up);
      f(e.down);
    }
  }
};

using Op = std::variant<EmbedOp, NormOp, LinearOp, RopeOp, StoreKvOp, AttentionOp, ActivateOp,
                        CapOp, GatherOp, RouteOp, AddRowsOp, AddGatedOp, CopyColumnsOp,
                        // composites
                        LinearsOp, ActivateLinearOp, AttentionLinearOp, HeadLinearsOp,
                        LatentAttentionOp, MoeOp>;

// Calls f(Tensor, Access) for every tensor of an operation that is there, inputs first. A tensor
// that is read and written as two of its fields comes twice.
template <class F>
void each_tensor(const Op& op, F f) {
  std::visit([&](const auto& o) { o.each_tensor(f); }, op);
}

// Calls f(const Linear&) for every weight matrix of an operation, in the order of use.
template <class F>
void each_linear(const Op& op, F f) {
  std::visit(
      [&](const auto& o) {
        if constexpr (requires { o.each_linear(f); }) o.each_linear(f);
      },
      op);
}

}  // namespace pith
