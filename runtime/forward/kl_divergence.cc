#include "runtime/forward/kl_divergence.h"

#include <cmath>

namespace pith {

double kl_divergence(const float* p, double log_sum_p, const float* q, double log_sum_q,
                     int64_t vocab) {
  double sum = 0;
  for (int64_t t = 0; t < vocab; ++t) {
    const double lp = static_cast<double>(p[t]) - log_sum_p;
    if (lp < -40) continue;  // less than 1e-17 each
    sum += std::exp(lp) * (lp - (static_cast<double>(q[t]) - log_sum_q));
  }
  return sum < 0 ? 0 : sum;  // NaN stays
}

}  // namespace pith
