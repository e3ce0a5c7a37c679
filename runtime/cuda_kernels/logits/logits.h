// Top-k, the mass behind it, and scores of evaluation over logits: the arguments of their kernels.
// Pointers are to device memory.
#pragma once

#include <stdint.h>
#include <string.h>

namespace pith::cuda {

// The k largest of x[n], largest first, of equal ones the first; what is not a number comes before
// all. As keys: the upper half is the number, in an order of unsigned integers (key_float()), the
// lower the complement of where it stands.
inline constexpr int32_t kMaxTop = 256;
struct Top {
  const float* x;
  int64_t n;
  int32_t k;
  uint64_t* workspace;  // top_k_workspace(n, k)
  uint64_t* to;         // [k]
};
inline constexpr int64_t kTopChunk = 2048;
constexpr int64_t top_k_workspace(int64_t n, int64_t k) {
  return 2 * ((n + kTopChunk - 1) / kTopChunk) * k;
}
// sums[i] = of x in the i-th kTopChunk, those behind `last` in that order: exp((x - top) /
// temperature).
struct MassBehind {
  const float* x;
  int64_t n;
  float top, last;
  int32_t last_at;
  double temperature;
  double* sums;
};
inline float key_float(uint64_t key) {
  const auto ordered = static_cast<uint32_t>(key >> 32);
  const uint32_t bits = ordered >> 31 != 0 ? ordered & 0x7fffffffu : ~ordered;
  float v;
  memcpy(&v, &bits, 4);
  return v;
}

// What Executor::score() asks for, of each row of logits [m, n].
struct Score {
  const float* logits;
  int64_t m, n;
  const int32_t* targets;
  const float* base;            // or null
  const double* base_log_sums;  // [m]
  double* log_sum;              // [m], and so on
  double* divergence;
  float* target;
  int32_t* top;
};

}  // namespace pith::cuda
