#include "runtime/forward/routing.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace pith {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// Takes what is in the way out of the choice: the experts of all but the best groups.
void keep_best_groups(const proto::Moe& spec, std::vector<float>* scores) {
  const size_t groups = spec.groups(), size = scores->size() / groups;
  std::vector<float> best(groups);
  for (size_t g = 0; g < groups; ++g) {
    float first = -INFINITY, second = -INFINITY;
    for (size_t e = g * size; e < (g + 1) * size; ++e) {
      second = std::max(second, std::min(first, (*scores)[e]));
      first = std::max(first, (*scores)[e]);
    }
    best[g] = spec.sigmoid() && size > 1 ? first + second : first;
  }
  std::vector<size_t> order(groups);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return best[a] > best[b]; });
  for (size_t i = spec.chosen_groups(); i < groups; ++i)
    std::fill_n(scores->begin() + static_cast<int64_t>(order[i] * size), size, -INFINITY);
}

}  // namespace

void route(const proto::Moe& spec, std::span<const float> router,
           std::span<const float> choice_bias, std::span<float> weights) {
  const size_t experts = spec.experts(), chosen = spec.chosen();
  std::ranges::fill(weights, 0.0f);
  std::vector<float> logits(experts), scores(experts);
  std::vector<size_t> order(experts);
  const double scale = spec.scale() != 0 ? spec.scale() : 1;
  for (size_t row = 0; row * experts < router.size(); ++row) {
    for (size_t e = 0; e < experts; ++e) {
      const float v = router[row * experts + e];
      logits[e] = std::isnan(v) ? -INFINITY : v;
      scores[e] = logits[e];
      if (spec.sigmoid()) scores[e] = static_cast<float>(sigmoid(static_cast<double>(logits[e])));
      if (!choice_bias.empty()) scores[e] += choice_bias[e];
    }
    if (spec.groups() > 0) keep_best_groups(spec, &scores);
    std::iota(order.begin(), order.end(), size_t{0});
    std::partial_sort(
        order.begin(), order.begin() + static_cast<int64_t>(chosen), order.end(),
        [&](size_t a, size_t b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a < b; });
    const float top = *std::ranges::max_element(logits);
    const auto weight = [&](size_t e) {
      if (spec.sigmoid()) return sigmoid(static_cast<double>(logits[e]));
      return logits[e] == top ? 1.0
                              : std::exp(static_cast<double>(logits[e]) - static_cast<double>(top));
    };
    double sum = 0;
    for (size_t i = 0; i < (spec.normalized() ? chosen : experts); ++i)
      sum += weight(spec.normalized() ? order[i] : i);
    // Sigmoids may all be 0.
    if (spec.sigmoid()) sum = spec.normalized() ? sum + 1e-20 : 1;
    for (size_t i = 0; i < chosen; ++i) {
      const auto w = static_cast<float>(weight(order[i]) / sum * scale);
      weights[row * experts + order[i]] = w != 0 ? w : std::numeric_limits<float>::min();
    }
  }
}

std::vector<std::vector<int64_t>> rows_of_experts(std::span<const float> weights, int64_t experts) {
  std::vector<std::vector<int64_t>> rows(static_cast<size_t>(experts));
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] != 0) rows[i % rows.size()].push_back(static_cast<int64_t>(i / rows.size()));
  }
  return rows;
}

}  // namespace pith
