// Sums over vectors of f64 in a fixed order: the same bits wherever and on however many threads.
#pragma once

#include <cstdint>

namespace pith {

using F64x4 = double __attribute__((vector_size(32)));

inline double dot(const double* a, const double* b, int64_t n) {
  F64x4 sums[2] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int v = 0; v < 2; ++v) {
      F64x4 x, y;  // from addresses that may be aligned to 8 bytes only
      __builtin_memcpy(&x, a + i + 4 * v, sizeof x);
      __builtin_memcpy(&y, b + i + 4 * v, sizeof y);
      sums[v] += x * y;
    }
  }
  sums[0] += sums[1];
  double sum = (sums[0][0] + sums[0][1]) + (sums[0][2] + sums[0][3]);
  for (; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// y += by x
inline void add_scaled(double by, const double* x, double* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] += by * x[i];
}

// (x, y) = (c x - s y, s x + c y): a Givens rotation.
inline void rotate(double c, double s, double* x, double* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const double a = x[i], b = y[i];
    x[i] = c * a - s * b;
    y[i] = s * a + c * b;
  }
}

}  // namespace pith
