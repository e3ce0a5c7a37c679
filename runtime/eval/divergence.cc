#include "runtime/eval/divergence.h"

#include <numeric>
#include <vector>

#include "core/parallel.h"
#include "runtime/cpu/kernels.h"
#include "runtime/forward/kl_divergence.h"

namespace pith {

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
