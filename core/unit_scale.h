// Finite, and near 1: how a matrix begins before it is factored, so that neither squares nor their
// sums leave the range of f64.
#pragma once

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/matrix.h"

namespace pith {

// The power of two that brings the largest |element| into [0.5, 1), which changes no digit; 1 for
// zeros. Error(kNumeric) naming the element that is not finite.
inline double unit_scale(MatrixRef<const double> a, const char* what) {
  double largest = 0;
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j < a.columns; ++j) {
      if (!std::isfinite(a(i, j)))
        fail(ErrorKind::kNumeric, "{}: element ({}, {}) of the matrix is not finite", what, i, j);
      largest = std::max(largest, std::fabs(a(i, j)));
    }
  }
  int exponent = 0;
  std::frexp(largest, &exponent);
  // Beyond this 2^-exponent is not a number of full precision.
  return largest == 0 ? 1 : std::ldexp(1.0, -std::clamp(exponent, -1000, 1000));
}

}  // namespace pith
