#include "runtime/eval/quantile.h"

#include <algorithm>
#include <cmath>

namespace pith {

double quantile(std::span<const double> sorted, double q) {
  const double at = q * static_cast<double>(sorted.size() - 1);
  const auto i = static_cast<size_t>(at);
  const double rest = at - static_cast<double>(i);
  return i + 1 < sorted.size() ? sorted[i] * (1 - rest) + sorted[i + 1] * rest : sorted[i];
}

double quantile_error(std::span<const double> sorted, double q) {
  const double spread = std::sqrt(q * (1 - q) / static_cast<double>(sorted.size()));
  return (quantile(sorted, std::min(q + spread, 1.0)) -
          quantile(sorted, std::max(q - spread, 0.0))) /
         2;
}

}  // namespace pith
