#include "tools/processor.h"

#include <time.h>

#include <algorithm>
#include <vector>

#include "core/parallel.h"

namespace pith::tools {

namespace {

double thread_seconds() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

}  // namespace

double peak_operations(double (*run)(int64_t)) {
  constexpr int64_t kRounds = 1 << 18;
  std::vector<double> rates(static_cast<size_t>(24 * thread_count()));
  parallel_for(std::ssize(rates), [&](int64_t i) {
    const double begin = thread_seconds(), operations = run(kRounds);
    rates[static_cast<size_t>(i)] = operations / std::max(1e-9, thread_seconds() - begin);
  });
  // The upper quartile: pieces that began on a processor that was busy or slow count little.
  const auto upper = rates.begin() + std::ssize(rates) * 3 / 4;
  std::ranges::nth_element(rates, upper);
  return *upper * static_cast<double>(thread_count());
}

double share_of_tokens(const proto::ModelSpec& spec, const LinearInfo& info) {
  if (info.expert < 0) return 1;
  const auto& m = spec.layers(info.layer).sublayers(info.sublayer).moe();
  return static_cast<double>(m.chosen()) / m.experts();
}

}  // namespace pith::tools
