#include "prune/ratios.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "runtime/compress/allocation.h"

namespace pith {

double outlier_share(std::span<const float> w, std::span<const double> mean_square, double times) {
  if (w.empty() || mean_square.empty() || w.size() % mean_square.size() != 0)
    fail(ErrorKind::kUsage, "{} weights for {} inputs", w.size(), mean_square.size());
  std::vector<double> norm;
  for (const double v : mean_square) norm.push_back(std::sqrt(v));
  const auto score = [&](size_t i) {
    return std::fabs(static_cast<double>(w[i])) * norm[i % norm.size()];
  };
  double mean = 0;
  for (size_t i = 0; i < w.size(); ++i) mean += score(i);
  mean /= static_cast<double>(w.size());
  size_t outliers = 0;
  for (size_t i = 0; i < w.size(); ++i) outliers += score(i) > times * mean;
  return static_cast<double>(outliers) / static_cast<double>(w.size());
}

std::vector<double> owl_ratios(std::span<const double> shares, std::span<const uint64_t> weights,
                               double ratio, double spread) {
  if (shares.size() != weights.size() || shares.empty())
    fail(ErrorKind::kUsage, "{} shares of outliers for {} layers", shares.size(), weights.size());
  if (!(spread >= 0 && ratio - spread > 0 && ratio + spread < 1))
    fail(ErrorKind::kUsage, "ratios of {} +- {} are not between 0 and 1", ratio, spread);
  double mean = 0, all = 0;
  for (size_t i = 0; i < shares.size(); ++i) {
    mean += shares[i] * static_cast<double>(weights[i]);
    all += static_cast<double>(weights[i]);
  }
  mean /= all;
  double farthest = 0;
  for (const double s : shares) farthest = std::max(farthest, std::fabs(s - mean));
  std::vector<double> out;
  for (const double s : shares)
    out.push_back(farthest > 0 ? ratio + spread * ((mean - s) / farthest) : ratio);
  return out;
}

std::vector<double> ratios_by_costs(std::span<const RatioCosts> layers, double ratio) {
  std::vector<AllocationOptions> parts;
  double all = 0;
  for (const auto& l : layers) {
    if (l.ratios.empty() || l.ratios.size() != l.costs.size())
      fail(ErrorKind::kUsage, "{} costs of {} ratios", l.costs.size(), l.ratios.size());
    all += static_cast<double>(l.weights);
    auto& options = parts.emplace_back();
    // By what is kept: the largest ratio first.
    for (size_t i = l.ratios.size(); i-- > 0;) {
      const double kept = (1 - l.ratios[i]) * static_cast<double>(l.weights);
      options.push_back({static_cast<uint64_t>(std::ceil(kept)), l.costs[i]});
    }
  }
  // A weight of each layer for rounding.
  const double budget = (1 - ratio) * all + static_cast<double>(layers.size());
  const Allocation a = allocate_within_bytes(parts, static_cast<uint64_t>(std::max(0.0, budget)));
  if (!a.within) fail(ErrorKind::kUsage, "the largest ratios measured drop less than {}", ratio);
  std::vector<double> out;
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto& ratios = layers[i].ratios;
    out.push_back(ratios[ratios.size() - 1 - a.chosen[i]]);
  }
  return out;
}

}  // namespace pith
