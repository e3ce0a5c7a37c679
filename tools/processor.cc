#include "tools/processor.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <vector>

#include "core/parallel.h"

namespace pith::tools {

double peak_operations(double (*run)(int64_t)) {
  using Clock = std::chrono::steady_clock;
  constexpr int64_t kRounds = 1 << 18;
  double best = 0;
  for (int repeat = 0; repeat < 3; ++repeat) {
    std::vector<double> done(static_cast<size_t>(8 * thread_count()));
    const auto begin = Clock::now();
    parallel_for(static_cast<int64_t>(done.size()),
                 [&](int64_t i) { done[static_cast<size_t>(i)] = run(kRounds); });
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    best = std::max(best, std::accumulate(done.begin(), done.end(), 0.0) / seconds);
  }
  return best;
}

double share_of_tokens(const proto::ModelSpec& spec, const LinearInfo& info) {
  if (info.expert < 0) return 1;
  const auto& m = spec.layers(info.layer).sublayers(info.sublayer).moe();
  return static_cast<double>(m.chosen()) / m.experts();
}

}  // namespace pith::tools
