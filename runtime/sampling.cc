#include "runtime/sampling.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace pith {

void check_sampling(const SamplingOptions& o) {
  if (!(o.temperature >= 0 && o.temperature <= 100))
    fail(ErrorKind::kUsage, "temperature {}: 0 to 100", o.temperature);
  if (o.top_k < 0) fail(ErrorKind::kUsage, "top-k {}: 0 or more", o.top_k);
  if (!(o.top_p > 0 && o.top_p <= 1))
    fail(ErrorKind::kUsage, "top-p {}: above 0, at most 1", o.top_p);
  if (!(o.min_p >= 0 && o.min_p <= 1)) fail(ErrorKind::kUsage, "min-p {}: 0 to 1", o.min_p);
  if (!(o.repetition_penalty >= 0.01 && o.repetition_penalty <= 100))
    fail(ErrorKind::kUsage, "repetition penalty {}: 0.01 to 100", o.repetition_penalty);
}

Sampler::Sampler(const SamplingOptions& options) : options_(options), rng_(options.seed) {
  check_sampling(options);
}

namespace {

// Likeliest first; ties by id, so that the order is one and the same everywhere.
bool likelier(const Candidate& a, const Candidate& b) {
  const bool none = std::isnan(a.logit), other_none = std::isnan(b.logit);
  if (none || other_none) return none != other_none ? none : a.id < b.id;
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

}  // namespace

void likeliest(std::span<const float> logits, std::span<Candidate> to) {
  if (to.size() == 1) {
    Candidate best{logits[0], 0};
    for (size_t i = 1; i < logits.size(); ++i) {
      const Candidate c{logits[i], static_cast<int32_t>(i)};
      if (!(c.logit <= best.logit) && likelier(c, best)) best = c;
    }
    to[0] = best;
    return;
  }
  std::vector<Candidate> all(logits.size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = {logits[i], static_cast<int32_t>(i)};
  std::partial_sort_copy(all.begin(), all.end(), to.begin(), to.end(), likelier);
}

std::set<int32_t> Sampler::penalized(std::span<const int32_t> history) const {
  if (options_.repetition_penalty == 1) return {};
  const auto window = std::min<size_t>(
      history.size(), static_cast<size_t>(std::max<int64_t>(0, options_.repetition_window)));
  return {history.end() - static_cast<std::ptrdiff_t>(window), history.end()};
}

// A penalty takes at most the penalized out of the likeliest; a bonus may bring in any.
size_t Sampler::candidates(std::span<const int32_t> history, size_t vocab) const {
  if (options_.repetition_penalty < 1 || (!greedy() && options_.top_k == 0)) return vocab;
  const size_t enough = greedy() ? 1 : static_cast<size_t>(options_.top_k);
  return std::min(vocab, enough + penalized(history).size());
}

int32_t Sampler::sample(std::span<const float> logits, std::span<const int32_t> history) {
  found_.resize(candidates(history, logits.size()));
  likeliest(logits, found_);
  return choose(found_, history);
}

int32_t Sampler::choose(std::span<Candidate> from, std::span<const int32_t> history) {
  const SamplingOptions& o = options_;
  // Some logit must be a number and none beyond: neither an order nor a mass exists otherwise.
  if (from.empty()) fail(ErrorKind::kNumeric, "no logits to choose from");
  if (std::isnan(from[0].logit)) fail(ErrorKind::kNumeric, "a logit is not a number");
  if (!std::isfinite(from[0].logit))
    fail(ErrorKind::kNumeric, "the largest logit is {}", from[0].logit);
  if (const auto seen = penalized(history); !seen.empty()) {
    const auto penalty = static_cast<float>(o.repetition_penalty);
    for (auto& [l, id] : from) {
      if (seen.contains(id)) l = l > 0 ? l / penalty : l * penalty;
    }
    std::ranges::sort(from, likelier);
  }
  if (greedy()) return from[0].id;

  size_t keep = from.size();
  if (o.top_k > 0) keep = std::min<size_t>(keep, static_cast<size_t>(o.top_k));
  const double top = static_cast<double>(from[0].logit);
  std::vector<double> weights(keep);
  double total = 0;
  for (size_t i = 0; i < keep; ++i) {
    weights[i] = std::exp((static_cast<double>(from[i].logit) - top) / o.temperature);
    total += weights[i];
  }
  if (o.top_p < 1) {
    double mass = 0;
    size_t n = 0;
    while (n < keep && mass < o.top_p * total) mass += weights[n++];
    keep = std::max<size_t>(1, n);
  }
  while (keep > 1 && weights[keep - 1] < o.min_p * weights[0]) --keep;
  total = 0;
  for (size_t i = 0; i < keep; ++i) total += weights[i];
  double draw = rng_.uniform() * total;
  for (size_t i = 0; i + 1 < keep; ++i) {
    draw -= weights[i];
    if (draw < 0) return from[i].id;
  }
  return from[keep - 1].id;
}

}  // namespace pith
