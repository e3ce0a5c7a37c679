// Dense matrices on the device, for what is worked out while a model is compressed. Rows lie `ld`
// elements apart. Every sum is taken in order, so that nothing depends on the chip.
#pragma once

#include <stdint.h>

namespace pith::cuda {

// A factor [rows, columns], or the transpose of what lies there.
template <class T>
struct Factor {
  const T* data;
  int64_t ld;
  bool transposed;
};
// c[m, n] = beta c + alpha a b; with beta 0, c is not read. `upper`: tiles that lie wholly below
// the diagonal of c are left as they are.
template <class T>
struct Gemm {
  int64_t m, n, k;
  Factor<T> a, b;
  T* c;
  int64_t ldc;
  T alpha, beta;
  bool upper;
};

// An upper triangular U with U U^T = a, in its place. a [n, n], n up to kCholeskyTile, of which the
// upper triangle is read. *failed becomes 1 where a is not positive definite or not finite.
inline constexpr int64_t kCholeskyTile = 64;
struct CholeskyTile {
  double* a;
  int64_t ld, n;
  int32_t* failed;
};
// x u = b, or x u^T = b, for x in the place of b [rows, n]; u [n, n] upper, n up to kCholeskyTile.
struct TriangularSolve {
  const double* u;
  int64_t ldu, n;
  bool transposed;
  double* b;
  int64_t ldb, rows;
};
// to[i, j] = scale * from[order[i], order[j]] off the diagonal; on it diagonal[order[i]] + add. [k,
// k] all; without an order, rows and columns stay in place.
struct Reorder {
  const float* from;
  const int32_t* order;
  const float* diagonal;
  int64_t k;
  double scale, add;
  double* to;
};
// The error feedback of GPTQ from a Cholesky factor u: feedback = u / its diagonal, column by
// column, 0 below the diagonal; variance[i] = u[i, i]^2. [k, k].
struct UnitUpper {
  const double* u;
  int64_t k;
  float* feedback;
  float* variance;
};
// Converts n numbers.
struct F32ToF64 {
  const float* from;
  int64_t n;
  double* to;
};
// y += by x, n numbers
struct AddScaled {
  const float* x;
  float by;
  int64_t n;
  float* y;
};
struct F64ToF32 {
  const double* from;
  int64_t n;
  float* to;
};
// squares = squares * keep + add * sum of x[., c]^2, absmax = max(absmax, |x[., c]|) or NaN, for
// every column of x [m, k].
struct ChannelSums {
  const float* x;
  int64_t m, k;
  double keep, add;
  double* squares;
  float* absmax;
};
// sums[i, c] = sum over r in [starts[i], starts[i + 1]) of a[r, c] b[r, c]; a and b from row
// starts[0] on, [., columns]. Without starts, one sum over `rows`.
struct ColumnSums {
  const float* a;
  const float* b;
  int64_t columns, rows;
  const int32_t* starts;
  int64_t count;
  double* sums;
};

}  // namespace pith::cuda
