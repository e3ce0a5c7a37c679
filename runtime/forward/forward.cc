#include "runtime/forward/forward.h"

#include <array>
#include <numeric>

#include "core/error.h"

namespace pith {
namespace {

// y = norm(x) W^T + bias of linears of one input.
void input_linears(Executor& e, const proto::Norm& spec, const NormWeights& norm, Tensor x,
                   const std::array<LinearTo, 3>& to) {
  if (spec.kind() == proto::NORM_NONE) return e.run(LinearsOp{nullptr, x, {}, to});
  e.run(LinearsOp{&norm, x, e.buffer(TensorId::kNormed, x.m, x.n), to});
}

// Adds to the residual stream: x += post_norm(output) of a sublayer, or the output itself where it
// has no such norm; last(y, accumulate) writes or adds the output to y.
void add_output(Executor& e, const proto::Sublayer& spec, const SublayerWeights& weights, Tensor x,
                FunctionRef<void(Tensor y, bool accumulate)> last) {
  if (spec.post_norm().kind() == proto::NORM_NONE) return last(x, true);
  const Tensor output = e.buffer(TensorId::kSublayerOutput, x.m, x.n);
  last(output, false);
  e.run(NormOp{&weights.post_norm, output, x, true});
}

void latent_sublayer(const ForwardPass& pass, const proto::Sublayer& sublayer,
                     const SublayerWeights& weights, int index, Tensor x) {
  Executor& e = pass.executor;
  const proto::Attention& spec = sublayer.attention();
  const AttentionWeights& w = *weights.attention;
  const LatentWeights& latent = *w.latent;
  const Tensor kv = e.buffer(TensorId::kKey, x.m, latent.kv_down.n),
               q = e.buffer(TensorId::kQuery, x.m, w.q.n);
  if (spec.latent().query_rank() > 0) {
    const Tensor down = e.buffer(TensorId::kValue, x.m, latent.q_down.n);
    input_linears(e, sublayer.norm(), weights.norm, x,
                  {{{&latent.q_down, down}, {&latent.kv_down, kv}}});
    input_linears(e, spec.query_norm(), w.query_norm, down, {{{&w.q, q}}});
  } else {
    input_linears(e, sublayer.norm(), weights.norm, x, {{{&w.q, q}, {&latent.kv_down, kv}}});
  }
  const Tensor attended = e.buffer(TensorId::kAttentionOutput, x.m, w.o.k);
  add_output(e, sublayer, weights, x, [&](Tensor y, bool accumulate) {
    e.run(LatentAttentionOp{&spec, &w, pass.cache.layer(index), pass.batch, q, kv, attended, y,
                            accumulate});
  });
}

void attention_sublayer(const ForwardPass& pass, const proto::Sublayer& sublayer,
                        const SublayerWeights& weights, int index, Tensor x) {
  const proto::Attention& spec = sublayer.attention();
  const AttentionWeights& w = *weights.attention;
  if (spec.has_latent()) return latent_sublayer(pass, sublayer, weights, index, x);
  Executor& e = pass.executor;
  const int64_t m = x.m, d = spec.head_dim(), heads = spec.heads(), kv_heads = spec.kv_heads();
  const Tensor q = e.buffer(TensorId::kQuery, m, heads * d),
               k = e.buffer(TensorId::kKey, m, kv_heads * d),
               v = e.buffer(TensorId::kValue, m, kv_heads * d);
  input_linears(e, sublayer.norm(), weights.norm, x, {{{&w.q, q}, {&w.k, k}, {&w.v, v}}});
  const Tensor attended = e.buffer(TensorId::kAttentionOutput, m, heads * d);
  add_output(e, sublayer, weights, x, [&](Tensor y, bool accumulate) {
    e.run(AttentionLinearOp{&spec, &w, pass.cache.layer(index), pass.batch, q, k, v, attended, y,
                            accumulate});
  });
}

// The inputs of the last linear of an MLP: gate (up where there is no gate), and up where there is
// one.
struct MlpInputs {
  Tensor gate, up;
};
MlpInputs first_linears(Executor& e, const proto::Mlp& spec, const MlpWeights& w,
                        const proto::Norm& norm, const NormWeights& norm_weights, Tensor x) {
  const auto width = static_cast<int64_t>(spec.width());
  const Tensor up = e.buffer(TensorId::kUp, x.m, width);
  if (!spec.gated()) {
    input_linears(e, norm, norm_weights, x, {{{&w.up, up}}});
    return {up, {}};
  }
  const Tensor gate = e.buffer(TensorId::kGate, x.m, width);
  input_linears(e, norm, norm_weights, x, {{{&w.gate, gate}, {&w.up, up}}});
  return {gate, up};
}

void mlp_sublayer(Executor& e, const proto::Sublayer& sublayer, const SublayerWeights& weights,
                  Tensor x) {
  const proto::Mlp& spec = sublayer.mlp();
  const MlpWeights& w = *weights.mlp;
  const MlpInputs in = first_linears(e, spec, w, sublayer.norm(), weights.norm, x);
  add_output(e, sublayer, weights, x, [&](Tensor y, bool accumulate) {
    e.run(ActivateLinearOp{spec.activation(), in.gate, in.up, &w.down, y, accumulate});
  });
}

// y (+)= the output of the expert that every token goes to; x was normed for the router.
void shared_expert(Executor& e, const proto::Mlp& spec, const MlpWeights& w, Tensor x, Tensor y,
                   bool accumulate) {
  const MlpInputs in = first_linears(e, spec, w, {}, {}, x);
  e.run(ActivateLinearOp{spec.activation(), in.gate, in.up, &w.down, y, accumulate});
}

std::vector<int64_t> all_rows(int64_t m) {
  std::vector<int64_t> rows(static_cast<size_t>(m));
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

void moe_sublayer(Executor& e, const proto::Sublayer& sublayer, const SublayerWeights& weights,
                  Tensor x) {
  const Tensor normed = e.buffer(TensorId::kNormed, x.m, x.n);
  if (sublayer.norm().kind() == proto::NORM_NONE) {
    e.run(GatherOp{x, all_rows(x.m), normed});  // what is added to x is not to be read
  } else {
    e.run(NormOp{&weights.norm, x, normed});
  }
  const proto::Moe& spec = sublayer.moe();
  const MoeWeights& w = *weights.moe;
  e.run(MoeOp{&spec, &w, normed, x});
  if (!spec.has_shared()) return;
  if (!spec.shared_gate()) return shared_expert(e, spec.shared(), *w.shared, normed, x, true);
  const Tensor output = e.buffer(TensorId::kSublayerOutput, x.m, x.n),
               gate = e.buffer(TensorId::kRouter, x.m, 1);
  shared_expert(e, spec.shared(), *w.shared, normed, output, false);
  e.run(LinearOp{&w.shared_gate, normed, gate});
  e.run(AddGatedOp{output, gate, x});
}

void check_tokens(const proto::ModelSpec& spec, std::span<const int32_t> tokens) {
  for (const int32_t id : tokens) {
    if (id < 0 || static_cast<uint64_t>(id) >= spec.vocab())
      fail(ErrorKind::kUsage, "token {} is not in the model's vocabulary of {}", id, spec.vocab());
  }
}

}  // namespace

void embed_tokens(Executor& e, const proto::ModelSpec& spec, const Linear& embedding,
                  std::span<const int32_t> tokens, Tensor x) {
  check_tokens(spec, tokens);
  const double scale = spec.embedding_scale();
  e.run(EmbedOp{&embedding, tokens, scale != 0 ? static_cast<float>(scale) : 1, x});
}

int attention_count(const proto::ModelSpec& spec, int layers) {
  int count = 0;
  for (int l = 0; l < layers; ++l) {
    for (const auto& s : spec.layers(l).sublayers()) count += s.has_attention();
  }
  return count;
}

void forward_sublayer(const ForwardPass& pass, const proto::Sublayer& spec,
                      const SublayerWeights& w, int attention_index, Tensor x) {
  if (spec.has_attention()) return attention_sublayer(pass, spec, w, attention_index, x);
  if (spec.has_moe()) return moe_sublayer(pass.executor, spec, w, x);
  mlp_sublayer(pass.executor, spec, w, x);
}

void forward_block(const ForwardPass& pass, const proto::ModelSpec& spec, const Block& block,
                   int attention_index, Tensor x) {
  const auto& layer = spec.layers(block.layer);
  for (int s = 0; s < layer.sublayers_size(); ++s) {
    const auto& sub = layer.sublayers(s);
    forward_sublayer(pass, sub, block.sublayers[static_cast<size_t>(s)], attention_index, x);
    attention_index += sub.has_attention();
  }
}

void forward_blocks(const ForwardPass& pass, const Model& model, int64_t first_block, Tensor x) {
  int attention = 0;
  for (auto b = static_cast<size_t>(first_block); b < model.blocks.size(); ++b) {
    const Block& block = model.blocks[b];
    forward_block(pass, model.spec, block, attention, x);
    for (const auto& sub : model.spec.layers(block.layer).sublayers())
      attention += sub.has_attention();
  }
}

Tensor forward_hidden(Executor& e, const Model& model, const Batch& batch, KvCache& cache) {
  const auto m = static_cast<int64_t>(batch.tokens.size());
  const Tensor x = e.buffer(TensorId::kHidden, m, static_cast<int64_t>(model.spec.hidden()));
  embed_tokens(e, model.spec, model.embedding, batch.tokens, x);
  forward_blocks({e, batch, cache}, model, 0, x);
  return x;
}

Tensor forward_head(Executor& e, const Model& model, Tensor hidden, std::span<const int64_t> rows) {
  const auto m = static_cast<int64_t>(rows.size());
  const Tensor last = e.buffer(TensorId::kLast, m, hidden.n);
  e.run(GatherOp{hidden, {rows.begin(), rows.end()}, last});
  if (model.spec.final_norm().kind() != proto::NORM_NONE)
    e.run(NormOp{&model.final_norm, last, last});
  const Tensor logits = e.buffer(TensorId::kLogits, m, static_cast<int64_t>(model.spec.vocab()));
  e.run(LinearOp{&model.head(), last, logits});
  if (model.spec.logit_cap() > 0) e.run(CapOp{static_cast<float>(model.spec.logit_cap()), logits});
  return logits;
}

Tensor forward_logits(Executor& e, const Model& model, const Batch& batch, KvCache& cache,
                      std::span<const int64_t> rows) {
  // Here too: a pass that is repeated does not come by embed_tokens().
  check_tokens(model.spec, batch.tokens);
  return e.pass(batch, cache.storage(), rows, [&] {
    return forward_head(e, model, forward_hidden(e, model, batch, cache), rows);
  });
}

}  // namespace pith
