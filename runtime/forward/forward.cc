#include "runtime/forward/forward.h"

#include <numeric>

#include "core/error.h"

namespace pith {
namespace {

// Linears of norm(x).
void input_linears(Executor& e, const proto::Norm& spec, const NormWeights& norm, Activation x,
                   std::span<const Executor::To> all) {
  if (spec.kind() == proto::NORM_NONE) return e.linears(x, all);
  e.norm_linears(norm, x, e.buffer(Slot::kNormed, x.m, x.n), all);
}

// x += norm(what `make` makes), or that itself.
void add_made(Executor& e, const proto::Sublayer& spec, const SublayerWeights& weights,
              Activation x, FunctionRef<void(Activation y, bool add)> make) {
  if (spec.post_norm().kind() == proto::NORM_NONE) return make(x, true);
  const Activation made = e.buffer(Slot::kSublayerOutput, x.m, x.n);
  make(made, false);
  e.norm(weights.post_norm, made, x, true);
}

void latent_sublayer(Executor& e, const proto::Sublayer& sublayer, const SublayerWeights& weights,
                     int index, const Batch& batch, KvCache& cache, Activation x) {
  const proto::Attention& spec = sublayer.attention();
  const AttentionWeights& w = *weights.attention;
  const LatentWeights& latent = *w.latent;
  const Activation kv = e.buffer(Slot::kKey, x.m, latent.kv_down.n),
                   q = e.buffer(Slot::kQuery, x.m, w.q.n);
  if (spec.latent().query_rank() > 0) {
    const Activation down = e.buffer(Slot::kValue, x.m, latent.q_down.n);
    input_linears(e, sublayer.norm(), weights.norm, x,
                  {{{&latent.q_down, down}, {&latent.kv_down, kv}}});
    input_linears(e, spec.query_norm(), w.query_norm, down, {{{&w.q, q}}});
  } else {
    input_linears(e, sublayer.norm(), weights.norm, x, {{{&w.q, q}, {&latent.kv_down, kv}}});
  }
  const Activation attended = e.buffer(Slot::kAttentionOutput, x.m, w.o.k);
  add_made(e, sublayer, weights, x, [&](Activation y, bool add) {
    e.latent_linear(spec, w, index, batch, cache, q, kv, attended, y, add);
  });
}

void attention_sublayer(Executor& e, const proto::Sublayer& sublayer,
                        const SublayerWeights& weights, int index, const Batch& batch,
                        KvCache& cache, Activation x) {
  const proto::Attention& spec = sublayer.attention();
  const AttentionWeights& w = *weights.attention;
  if (spec.has_latent()) return latent_sublayer(e, sublayer, weights, index, batch, cache, x);
  const int64_t m = x.m, d = spec.head_dim(), heads = spec.heads(), kv_heads = spec.kv_heads();
  const Activation q = e.buffer(Slot::kQuery, m, heads * d);
  const Activation k = e.buffer(Slot::kKey, m, kv_heads * d);
  const Activation v = e.buffer(Slot::kValue, m, kv_heads * d);
  input_linears(e, sublayer.norm(), weights.norm, x, {{{&w.q, q}, {&w.k, k}, {&w.v, v}}});
  const Activation attended = e.buffer(Slot::kAttentionOutput, m, heads * d);
  add_made(e, sublayer, weights, x, [&](Activation y, bool add) {
    e.attention_linear(spec, w, index, batch, cache, q, k, v, attended, y, add);
  });
}

// What the last linear of an MLP takes: gate (or up where there is none), and up where there is a
// gate.
struct MlpParts {
  Activation gate, up;
};
MlpParts first_linears(Executor& e, const proto::Mlp& spec, const MlpWeights& w,
                       const proto::Norm& norm, const NormWeights& norm_weights, Activation x) {
  const auto width = static_cast<int64_t>(spec.width());
  const Activation up = e.buffer(Slot::kUp, x.m, width);
  if (!spec.gated()) {
    input_linears(e, norm, norm_weights, x, {{{&w.up, up}}});
    return {up, {}};
  }
  const Activation gate = e.buffer(Slot::kGate, x.m, width);
  input_linears(e, norm, norm_weights, x, {{{&w.gate, gate}, {&w.up, up}}});
  return {gate, up};
}

void mlp_sublayer(Executor& e, const proto::Sublayer& sublayer, const SublayerWeights& weights,
                  Activation x) {
  const proto::Mlp& spec = sublayer.mlp();
  const MlpWeights& w = *weights.mlp;
  const MlpParts parts = first_linears(e, spec, w, sublayer.norm(), weights.norm, x);
  add_made(e, sublayer, weights, x, [&](Activation y, bool add) {
    e.activate_linear(spec.activation(), parts.gate, parts.up, w.down, y, add);
  });
}

// y (+)= what the expert that every token takes makes of x
void shared_expert(Executor& e, const proto::Mlp& spec, const MlpWeights& w, Activation x,
                   Activation y, bool add) {
  const MlpParts parts = first_linears(e, spec, w, {}, {}, x);  // x was normed for the router
  e.activate_linear(spec.activation(), parts.gate, parts.up, w.down, y, add);
}

void moe_sublayer(Executor& e, const proto::Sublayer& sublayer, const SublayerWeights& weights,
                  Activation x) {
  const Activation normed = e.buffer(Slot::kNormed, x.m, x.n);
  if (sublayer.norm().kind() == proto::NORM_NONE) {
    std::vector<int64_t> all(static_cast<size_t>(x.m));
    std::iota(all.begin(), all.end(), 0);
    e.gather(x, all, normed);  // what is added to x is not to be read
  } else {
    e.norm(weights.norm, x, normed, false);
  }
  const proto::Moe& spec = sublayer.moe();
  const MoeWeights& w = *weights.moe;
  e.moe(spec, w, normed, x);
  if (!spec.has_shared()) return;
  if (!spec.shared_gate()) return shared_expert(e, spec.shared(), *w.shared, normed, x, true);
  const Activation made = e.buffer(Slot::kSublayerOutput, x.m, x.n),
                   gate = e.buffer(Slot::kRouter, x.m, 1);
  shared_expert(e, spec.shared(), *w.shared, normed, made, false);
  e.linear(w.shared_gate, normed, gate, false);
  e.add_gated(made, gate, x);
}

void check_tokens(const proto::ModelSpec& spec, std::span<const int32_t> tokens) {
  for (const int32_t id : tokens) {
    if (id < 0 || static_cast<uint64_t>(id) >= spec.vocab())
      fail(ErrorKind::kUsage, "token {} is not in the model's vocabulary of {}", id, spec.vocab());
  }
}

}  // namespace

void embed_tokens(Executor& e, const proto::ModelSpec& spec, const Linear& embedding,
                  std::span<const int32_t> tokens, Activation x) {
  check_tokens(spec, tokens);
  const double scale = spec.embedding_scale();
  e.embed(embedding, tokens, scale != 0 ? static_cast<float>(scale) : 1, x);
}

int attention_count(const proto::ModelSpec& spec, int layers) {
  int count = 0;
  for (int l = 0; l < layers; ++l) {
    for (const auto& s : spec.layers(l).sublayers()) count += s.has_attention();
  }
  return count;
}

void forward_sublayer(Executor& e, const proto::Sublayer& spec, const SublayerWeights& w,
                      int attention_index, const Batch& batch, KvCache& cache, Activation x) {
  if (spec.has_attention()) return attention_sublayer(e, spec, w, attention_index, batch, cache, x);
  if (spec.has_moe()) return moe_sublayer(e, spec, w, x);
  mlp_sublayer(e, spec, w, x);
}

void forward_block(Executor& e, const proto::ModelSpec& spec, const Block& block,
                   int attention_index, const Batch& batch, KvCache& cache, Activation x) {
  const auto& layer = spec.layers(block.layer);
  for (int s = 0; s < layer.sublayers_size(); ++s) {
    const auto& sub = layer.sublayers(s);
    forward_sublayer(e, sub, block.sublayers[static_cast<size_t>(s)], attention_index, batch, cache,
                     x);
    attention_index += sub.has_attention();
  }
}

void forward_blocks(Executor& e, const Model& model, int64_t first_block, const Batch& batch,
                    KvCache& cache, Activation x) {
  int attention = 0;
  for (auto b = static_cast<size_t>(first_block); b < model.blocks.size(); ++b) {
    const Block& block = model.blocks[b];
    forward_block(e, model.spec, block, attention, batch, cache, x);
    for (const auto& sub : model.spec.layers(block.layer).sublayers())
      attention += sub.has_attention();
  }
}

Activation forward_hidden(Executor& e, const Model& model, const Batch& batch, KvCache& cache) {
  const auto m = static_cast<int64_t>(batch.tokens.size());
  const Activation x = e.buffer(Slot::kHidden, m, static_cast<int64_t>(model.spec.hidden()));
  embed_tokens(e, model.spec, model.embedding, batch.tokens, x);
  forward_blocks(e, model, 0, batch, cache, x);
  return x;
}

Activation forward_head(Executor& e, const Model& model, Activation hidden,
                        std::span<const int64_t> rows) {
  const auto m = static_cast<int64_t>(rows.size());
  const Activation last = e.buffer(Slot::kLast, m, hidden.n);
  e.gather(hidden, rows, last);
  if (model.spec.final_norm().kind() != proto::NORM_NONE)
    e.norm(model.final_norm, last, last, false);
  const Activation logits = e.buffer(Slot::kLogits, m, static_cast<int64_t>(model.spec.vocab()));
  e.linear(model.head(), last, logits, false);
  if (model.spec.logit_cap() > 0) e.cap(logits, static_cast<float>(model.spec.logit_cap()));
  return logits;
}

Activation forward_logits(Executor& e, const Model& model, const Batch& batch, KvCache& cache,
                          std::span<const int64_t> rows) {
  // Here too: a pass that is repeated does not come by embed_tokens().
  check_tokens(model.spec, batch.tokens);
  return e.pass(batch, cache, rows, [&] {
    return forward_head(e, model, forward_hidden(e, model, batch, cache), rows);
  });
}

}  // namespace pith
