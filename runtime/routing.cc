#include "runtime/routing.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace pith {

std::vector<ExpertTokens> route(const proto::Mixture& spec, std::span<const float> router) {
  const size_t experts = spec.experts(), chosen = spec.chosen();
  std::vector<ExpertTokens> to(experts);
  std::vector<double> logits(experts);
  std::vector<size_t> order(experts);
  for (size_t row = 0; row * experts < router.size(); ++row) {
    for (size_t e = 0; e < experts; ++e) {
      const float v = router[row * experts + e];
      logits[e] = static_cast<double>(std::isnan(v) ? -INFINITY : v);
    }
    std::iota(order.begin(), order.end(), size_t{0});
    std::partial_sort(
        order.begin(), order.begin() + static_cast<int64_t>(chosen), order.end(),
        [&](size_t a, size_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
    const double top = logits[order.front()];
    const auto weight = [&](size_t e) {
      return logits[e] == top ? 1.0 : std::exp(logits[e] - top);
    };
    double sum = 0;
    for (size_t i = 0; i < (spec.normalized() ? chosen : experts); ++i)
      sum += weight(spec.normalized() ? order[i] : i);
    for (size_t i = 0; i < chosen; ++i) {
      to[order[i]].rows.push_back(static_cast<int64_t>(row));
      to[order[i]].weights.push_back(static_cast<float>(weight(order[i]) / sum));
    }
  }
  return to;
}

}  // namespace pith
