#include "runtime/forward/expand.h"

#include <cmath>

#include "runtime/forward/routing.h"

namespace pith {

AttentionShape attention_shape(const proto::Attention& spec) {
  const double d = spec.head_dim();
  AttentionShape shape{spec.heads(),
                       spec.kv_heads(),
                       spec.head_dim(),
                       static_cast<int64_t>(spec.window()),
                       spec.scale() != 0 ? spec.scale() : 1 / std::sqrt(d),
                       spec.score_cap()};
  if (spec.has_latent()) {
    shape.kv_heads = 1;
    shape.head_dim = static_cast<int64_t>(spec.latent().rank()) + spec.rope().dims();
  }
  return shape;
}

void expand(const LinearsOp& op, Executor& e) {
  if (op.norm != nullptr) e.run(NormOp{op.norm, op.x, op.normed});
  for (const LinearTo& to : op.targets())
    e.run(LinearOp{to.linear, op.norm != nullptr ? op.normed : op.x, to.y});
}

void expand(const ActivateLinearOp& op, Executor& e) {
  e.run(ActivateOp{op.activation, op.gate, op.up});
  e.run(LinearOp{op.linear, op.gate, op.y, op.accumulate});
}

void expand(const AttentionLinearOp& op, Executor& e) {
  const proto::Attention& spec = *op.spec;
  const AttentionWeights& w = *op.weights;
  const int64_t d = spec.head_dim();
  const auto norm_and_rotate = [&](const NormWeights& weights, const proto::Norm& norm, Tensor x) {
    const Tensor heads = x.reshaped(x.m * x.n / d, d);
    if (norm.kind() != proto::NORM_NONE) e.run(NormOp{&weights, heads, heads});
    if (spec.rope().dims() > 0) e.run(RopeOp{&spec.rope(), d, op.batch, x});
  };
  norm_and_rotate(w.query_norm, spec.query_norm(), op.q);
  norm_and_rotate(w.key_norm, spec.key_norm(), op.k);
  e.run(StoreKvOp{op.cache, op.batch, op.k, op.v});
  e.run(AttentionOp{attention_shape(spec), &w.sinks, op.cache, op.batch, op.q, op.attended});
  e.run(LinearOp{&w.o, op.attended, op.y, op.accumulate});
}

void expand(const HeadLinearsOp& op, Executor& e) {
  const int64_t heads = std::ssize(op.linears), m = op.x.m;
  for (int64_t h = 0; h < heads; ++h) {
    const Linear& l = op.linears[static_cast<size_t>(h)];
    const Tensor in = e.buffer(TensorId::kHeadInput, m, l.k),
                 out = e.buffer(TensorId::kHeadOutput, m, l.n);
    e.run(CopyColumnsOp{op.x, h * (op.x.n / heads) + op.from, in, 0, l.k});
    e.run(LinearOp{&l, in, out});
    e.run(CopyColumnsOp{out, 0, op.y, h * (op.y.n / heads) + op.to, l.n});
  }
}

void expand(const LatentAttentionOp& op, Executor& e) {
  const proto::Attention& spec = *op.spec;
  const AttentionWeights& w = *op.weights;
  const AttentionShape shape = attention_shape(spec);
  const auto rank = static_cast<int64_t>(spec.latent().rank());
  const int64_t heads = shape.heads, key_dim = shape.head_dim, d = spec.head_dim(),
                plain = plain_dims(spec), rotated = d - plain, m = op.q.m;
  const Tensor latent = e.buffer(TensorId::kHeadInput, m, rank),
               key = e.buffer(TensorId::kLatentKey, m, key_dim);
  e.run(CopyColumnsOp{op.kv, 0, latent, 0, rank});
  if (spec.key_norm().kind() != proto::NORM_NONE) e.run(NormOp{&w.key_norm, latent, latent});
  e.run(CopyColumnsOp{op.kv, rank, key, 0, rotated});
  e.run(CopyColumnsOp{latent, 0, key, rotated, rank});
  const Tensor query = e.buffer(TensorId::kLatentQuery, m, heads * key_dim);
  e.run(CopyColumnsOp{op.q.reshaped(m * heads, d), plain, query.reshaped(m * heads, key_dim), 0,
                      rotated});
  e.run(HeadLinearsOp{w.latent->k_up, op.q, 0, query, rotated});
  for (const Tensor x : {query, key}) e.run(RopeOp{&spec.rope(), key_dim, op.batch, x});
  const Tensor out = e.buffer(TensorId::kLatentOut, m, heads * key_dim);
  e.run(StoreKvOp{op.cache, op.batch, key, key});
  e.run(AttentionOp{shape, nullptr, op.cache, op.batch, query, out});
  e.run(HeadLinearsOp{w.latent->v_up, out, rotated, op.attended, 0});
  e.run(LinearOp{&w.o, op.attended, op.y, op.accumulate});
}

Routing route_tokens(const MoeOp& op, Executor& e) {
  const int64_t m = op.x.m, experts = op.spec->experts();
  const Tensor logits = e.buffer(TensorId::kRouter, m, experts);
  e.run(LinearOp{&op.weights->router, op.x, logits});
  const Tensor weights = e.buffer(TensorId::kRouterWeights, m, experts);
  e.run(RouteOp{op.spec, &op.weights->choice_bias, logits, weights});
  std::vector<float> values(static_cast<size_t>(m * experts));
  e.read(weights, values);
  return {weights, rows_of_experts(values, experts)};
}

void run_expert(const MoeOp& op, const Routing& routing, int64_t expert, Executor& e) {
  const std::vector<int64_t>& rows = routing.rows[static_cast<size_t>(expert)];
  if (rows.empty()) return;
  const proto::Mlp& spec = op.spec->expert();
  const MlpWeights& w = op.weights->experts[static_cast<size_t>(expert)];
  const auto m = std::ssize(rows);
  const auto width = static_cast<int64_t>(spec.width());
  const Tensor in = e.buffer(TensorId::kExpertIo, m, op.x.n),
               up = e.buffer(TensorId::kUp, m, width);
  e.run(GatherOp{op.x, rows, in});
  Tensor gate = up;
  if (spec.gated()) {
    gate = e.buffer(TensorId::kGate, m, width);
    e.run(LinearsOp{nullptr, in, {}, {{{&w.gate, gate}, {&w.up, up}}}});
    e.run(ActivateOp{spec.activation(), gate, up});
  } else {
    e.run(LinearOp{&w.up, in, up});
    e.run(ActivateOp{spec.activation(), up, {}});
  }
  const Tensor out = e.buffer(TensorId::kExpertIo, m, op.y.n);
  e.run(LinearOp{&w.down, gate, out});
  e.run(AddRowsOp{out, rows, routing.weights, expert, op.y});
}

void expand(const MoeOp& op, Executor& e) {
  const Routing routing = route_tokens(op, e);
  for (int64_t expert = 0; expert < std::ssize(routing.rows); ++expert)
    run_expert(op, routing, expert, e);
}

bool expand_composite(const Op& op, Executor& executor) {
  return std::visit(
      [&](const auto& o) {
        if constexpr (requires { expand(o, executor); }) {
          expand(o, executor);
          return true;
        }
        return false;
      },
      op);
}

}  // namespace pith
