#pragma once

#include "runtime/compress/statistics.h"
#include "runtime/cpu/cpu_algebra.h"

namespace pith::test {

// Inputs of m tokens, on the host: x [m, k], input_delta [m, k] or null, stream_delta [m, hidden]
// or null.
inline InputStatistics statistics_of(const StatisticsNeeds& needs, int64_t m, int64_t k,
                                     const float* x, const float* input_delta = nullptr,
                                     const float* stream_delta = nullptr, int64_t hidden = 0) {
  StatisticsBuilder builder(cpu_algebra(), "x", needs, k, hidden);
  const auto rows = [m](const float* p, int64_t n) {
    return p != nullptr ? MatrixRef<const float>(p, m, n) : MatrixRef<const float>();
  };
  builder.add(rows(x, k), rows(input_delta, k), rows(stream_delta, hidden));
  return builder.finish();
}

}  // namespace pith::test
