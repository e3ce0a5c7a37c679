#include "runtime/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

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

int32_t Sampler::sample(std::span<float> logits, std::span<const int32_t> history) {
  const SamplingOptions& o = options_;
  // Some logit must be a number and none beyond: neither an order nor a mass exists otherwise.
  float top_logit = -std::numeric_limits<float>::infinity();
  for (const float l : logits) {
    if (std::isnan(l)) fail(ErrorKind::kNumeric, "a logit is not a number");
    top_logit = std::max(top_logit, l);
  }
  if (!std::isfinite(top_logit))
    fail(ErrorKind::kNumeric, "the largest of {} logits is {}", logits.size(), top_logit);
  if (o.repetition_penalty != 1) {
    const auto window = std::min<size_t>(
        history.size(), static_cast<size_t>(std::max<int64_t>(0, o.repetition_window)));
    const std::set<int32_t> seen(history.end() - static_cast<std::ptrdiff_t>(window),
                                 history.end());
    const auto penalty = static_cast<float>(o.repetition_penalty);
    for (const int32_t id : seen) {
      if (id < 0 || static_cast<size_t>(id) >= logits.size()) continue;
      float& l = logits[static_cast<size_t>(id)];
      l = l > 0 ? l / penalty : l * penalty;
    }
  }
  if (o.temperature == 0 || o.top_k == 1) {
    return static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());
  }

  // Likeliest first; ties by id, so that the order is one and the same everywhere.
  std::vector<int32_t> ids(logits.size());
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
  const auto likelier = [&](int32_t a, int32_t b) {
    const float la = logits[static_cast<size_t>(a)], lb = logits[static_cast<size_t>(b)];
    return la != lb ? la > lb : a < b;
  };
  size_t keep = ids.size();
  if (o.top_k > 0) keep = std::min<size_t>(keep, static_cast<size_t>(o.top_k));
  std::partial_sort(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(keep), ids.end(),
                    likelier);
  ids.resize(keep);

  const double top = static_cast<double>(logits[static_cast<size_t>(ids[0])]);
  std::vector<double> weights(keep);
  double total = 0;
  for (size_t i = 0; i < keep; ++i) {
    weights[i] =
        std::exp((static_cast<double>(logits[static_cast<size_t>(ids[i])]) - top) / o.temperature);
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
    if (draw < 0) return ids[i];
  }
  return ids[keep - 1];
}

}  // namespace pith
