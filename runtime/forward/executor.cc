#include "runtime/forward/executor.h"

#include "core/error.h"

namespace pith {

void check_fits(const Batch& batch, const KvCache& cache) {
  for (const Segment& s : batch.segments) {
    if (s.slot < 0 || s.slot >= cache.slots() || s.begin < 0 ||
        s.begin + s.count > cache.length()) {
      fail(ErrorKind::kUsage, "tokens {} to {} of sequence {} do not fit a cache of {} x {}",
           s.begin, s.begin + s.count, s.slot, cache.slots(), cache.length());
    }
    if (!cache.pages().owns(s.slot, s.begin, s.begin + s.count)) {
      fail(ErrorKind::kUsage, "tokens {} to {} of sequence {} have no pages of their own", s.begin,
           s.begin + s.count, s.slot);
    }
  }
}

void Executor::attention_linear(const proto::Attention& spec, const AttentionWeights& weights,
                                int index, const Batch& batch, KvCache& cache, Activation q,
                                Activation k, Activation v, Activation attended, Activation y,
                                bool add) {
  const auto d = static_cast<int64_t>(spec.head_dim());
  const auto prepare = [&](const NormWeights& w, const proto::Norm& norm, Activation x) {
    const Activation by_head = x.reshaped(x.m * x.n / d, d);
    if (norm.kind() != proto::NORM_NONE) this->norm(w, by_head, by_head, false);
    if (spec.rope().dims() > 0) rope(spec.rope(), d, batch, x);
  };
  prepare(weights.query_norm, spec.query_norm(), q);
  prepare(weights.key_norm, spec.key_norm(), k);
  attention(spec, weights.sinks, index, batch, cache, q, k, v, attended);
  linear(weights.o, attended, y, add);
}

void Executor::latent_linear(const proto::Attention& spec, const AttentionWeights& weights,
                             int index, const Batch& batch, KvCache& cache, Activation q,
                             Activation kv, Activation attended, Activation y, bool add) {
  const proto::Attention form = cached_form(spec);
  const auto heads = static_cast<int64_t>(spec.heads()),
             rank = static_cast<int64_t>(spec.latent().rank());
  const int64_t d = spec.head_dim(), plain = plain_dims(spec), rotated = d - plain,
                key_dim = form.head_dim(), m = q.m;
  const Activation vector = buffer(Slot::kHeadInput, m, rank),
                   key = buffer(Slot::kLatentKey, m, key_dim);
  copy_columns(kv, 0, vector, 0, rank);
  if (spec.key_norm().kind() != proto::NORM_NONE) norm(weights.key_norm, vector, vector, false);
  copy_columns(kv, rank, key, 0, rotated);
  copy_columns(vector, 0, key, rotated, rank);
  const Activation query = buffer(Slot::kLatentQuery, m, heads * key_dim);
  copy_columns(q.reshaped(m * heads, d), plain, query.reshaped(m * heads, key_dim), 0, rotated);
  by_head(weights.latent->k_up, q, 0, query, rotated);
  rope(form.rope(), key_dim, batch, query);
  rope(form.rope(), key_dim, batch, key);
  const Activation out = buffer(Slot::kLatentOut, m, heads * key_dim);
  attention(form, {}, index, batch, cache, query, key, key, out);
  by_head(weights.latent->v_up, out, rotated, attended, 0);
  linear(weights.o, attended, y, add);
}

void Executor::by_head(std::span<const Linear> linears, Activation x, int64_t from, Activation y,
                       int64_t to) {
  const int64_t heads = std::ssize(linears);
  for (int64_t h = 0; h < heads; ++h) {
    const Linear& l = linears[static_cast<size_t>(h)];
    const Activation taken = buffer(Slot::kHeadInput, x.m, l.k),
                     made = buffer(Slot::kHeadOutput, x.m, l.n);
    copy_columns(x, h * (x.n / heads) + from, taken, 0, l.k);
    linear(l, taken, made, false);
    copy_columns(made, 0, y, h * (y.n / heads) + to, l.n);
  }
}

std::vector<ExpertTokens> Executor::route_rows(const proto::Moe& spec, const MoeWeights& weights,
                                               Activation x) {
  const Activation logits = buffer(Slot::kRouter, x.m, spec.experts());
  linear(weights.router, x, logits, false);
  std::vector<float> values(static_cast<size_t>(logits.m * logits.n));
  read(logits, values);
  return route(spec, values, weights.choice_bias);
}

void Executor::run_expert(const proto::Mlp& spec, const MlpWeights& weights,
                          const ExpertTokens& tokens, Activation x, Activation y) {
  const auto m = static_cast<int64_t>(tokens.rows.size()),
             width = static_cast<int64_t>(spec.width());
  if (m == 0) return;
  const Activation taken = buffer(Slot::kExpertIo, m, x.n), up = buffer(Slot::kUp, m, width);
  gather(x, tokens.rows, taken);
  Activation gate = up;
  if (spec.gated()) {
    gate = buffer(Slot::kGate, m, width);
    linears(taken, {{{&weights.gate, gate}, {&weights.up, up}}});
    activate(spec.activation(), gate, up);
  } else {
    linear(weights.up, taken, up, false);
    activate(spec.activation(), up, {});
  }
  const Activation made = buffer(Slot::kExpertIo, m, y.n);
  linear(weights.down, gate, made, false);
  add_rows(made, tokens.rows, tokens.weights, y);
}

void Executor::moe(const proto::Moe& spec, const MoeWeights& weights, Activation x, Activation y) {
  const std::vector<ExpertTokens> tokens = route_rows(spec, weights, x);
  for (size_t e = 0; e < tokens.size(); ++e)
    run_expert(spec.expert(), weights.experts[e], tokens[e], x, y);
}

void Executor::top(Activation logits, std::span<Candidate> to) {
  std::vector<float> all(static_cast<size_t>(logits.m * logits.n));
  read(logits, all);
  likeliest_of_rows(all, logits.m, to);
}

double Executor::mass_behind(Activation logits, int64_t row, const Candidate& top,
                             const Candidate& last, double temperature) {
  std::vector<float> all(static_cast<size_t>(logits.m * logits.n));
  read(logits, all);
  const auto n = static_cast<size_t>(logits.n);
  return pith::mass_behind(std::span(all).subspan(static_cast<size_t>(row) * n, n), top, last,
                           temperature);
}

}  // namespace pith
