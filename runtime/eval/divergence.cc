#include "runtime/eval/divergence.h"

#include <cmath>
#include <numeric>
#include <vector>

#include "core/parallel.h"
#include "runtime/cpu/kernels.h"

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

double mean_kl(std::span<const float> p, std::span<const float> q, int64_t vocab) {
  std::vector<double> kl(p.size() / static_cast<size_t>(vocab));
  parallel_for(static_cast<int64_t>(kl.size()), [&](int64_t r) {
    const float *a = p.data() + r * vocab, *b = q.data() + r * vocab;
    kl[static_cast<size_t>(r)] = kl_divergence(a, cpu_kernels().log_sum_exp(a, vocab), b,
                                               cpu_kernels().log_sum_exp(b, vocab), vocab);
  });
  return std::accumulate(kl.begin(), kl.end(), 0.0) / static_cast<double>(kl.size());
}

}  // namespace pith
