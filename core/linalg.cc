#include "core/linalg.h"

#include <algorithm>
#include <cmath>

#include "core/buffer.h"
#include "core/bytes.h"
#include "core/parallel.h"
#include "core/vectors_f64.h"

namespace pith {
namespace {

constexpr int64_t kTile = 192;
constexpr int kRows = 4, kVectors = 3, kLanes = 4;  // of c in registers: 12 vectors of AVX2
constexpr int64_t kWidth = kVectors * kLanes;

// ---- c -= a b for packed tiles: a [rows, depth] at stride kTile, b [depth, kTile], c [rows,
// kTile]

using V4 = double __attribute__((vector_size(32), aligned(8), may_alias));

inline __attribute__((always_inline)) void subtract_product(int64_t rows, int64_t columns,
                                                            int64_t depth, const double* a,
                                                            const double* b, double* c) {
  for (int64_t j = 0; j < columns; j += kWidth) {
    for (int64_t i = 0; i < rows; i += kRows) {
      V4 sums[kRows][kVectors];
      for (int r = 0; r < kRows; ++r) {
        for (int v = 0; v < kVectors; ++v)
          sums[r][v] = *reinterpret_cast<const V4*>(c + (i + r) * kTile + j + v * kLanes);
      }
      for (int64_t p = 0; p < depth; ++p) {
        const V4* row = reinterpret_cast<const V4*>(b + p * kTile + j);
        for (int r = 0; r < kRows; ++r) {
          const double x = -a[(i + r) * kTile + p];
          const V4 factor = {x, x, x, x};
          for (int v = 0; v < kVectors; ++v) sums[r][v] += factor * row[v];
        }
      }
      for (int r = 0; r < kRows; ++r) {
        for (int v = 0; v < kVectors; ++v)
          *reinterpret_cast<V4*>(c + (i + r) * kTile + j + v * kLanes) = sums[r][v];
      }
    }
  }
}

void subtract_plain(int64_t rows, int64_t columns, int64_t depth, const double* a, const double* b,
                    double* c) {
  subtract_product(rows, columns, depth, a, b, c);
}
#if defined(__x86_64__)
__attribute__((target("avx2"))) void subtract_avx2(int64_t rows, int64_t columns, int64_t depth,
                                                   const double* a, const double* b, double* c) {
  subtract_product(rows, columns, depth, a, b, c);
}
#endif

using Subtract = void (*)(int64_t, int64_t, int64_t, const double*, const double*, double*);
Subtract choose_subtract() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2")) return subtract_avx2;
#endif
  return subtract_plain;
}
const Subtract subtract = choose_subtract();

int64_t round_up_to(int64_t n, int64_t multiple) { return ceil_div(n, multiple) * multiple; }

// A tile of its own memory, rows beyond the matrix zero.
struct Tile {
  Buffer<double> data{kTile * kTile};

  // `transposed`: to[j, i] = from[i, j].
  void load(const double* from, int64_t stride, int64_t rows, int64_t columns, bool transposed) {
    std::fill(data.begin(), data.end(), 0.0);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j)
        data[transposed ? j * kTile + i : i * kTile + j] = from[i * stride + j];
    }
  }
  // by * from; with 0, what is there does not matter.
  void load_scaled(MatrixRef<const double> from, double by) {
    std::fill(data.begin(), data.end(), 0.0);
    if (by == 0) return;
    for (int64_t i = 0; i < from.rows; ++i) {
      for (int64_t j = 0; j < from.columns; ++j) data[i * kTile + j] = by * from(i, j);
    }
  }
  void store(double* to, int64_t stride, int64_t rows, int64_t columns) const {
    for (int64_t i = 0; i < rows; ++i)
      std::copy(&data[i * kTile], &data[i * kTile] + columns, to + i * stride);
  }
};

// c [rows, columns] -= a [rows, depth] b, b [depth, columns], or its transpose [columns, depth].
void subtract_tile(double* c, int64_t c_stride, const double* a, int64_t a_stride, const double* b,
                   int64_t b_stride, int64_t rows, int64_t columns, int64_t depth,
                   bool b_transposed) {
  thread_local Tile ta, tb, tc;
  ta.load(a, a_stride, rows, depth, false);
  if (b_transposed) {
    tb.load(b, b_stride, columns, depth, true);
  } else {
    tb.load(b, b_stride, depth, columns, false);
  }
  tc.load(c, c_stride, rows, columns, false);
  subtract(round_up_to(rows, kRows), round_up_to(columns, kWidth), depth, ta.data.data(),
           tb.data.data(), tc.data.data());
  tc.store(c, c_stride, rows, columns);
}

// a [n, n] = U U^T, upper triangle in place, column after column from the last.
bool cholesky_tile(int64_t n, double* a, int64_t stride) {
  for (int64_t j = n - 1; j >= 0; --j) {
    double d = a[j * stride + j];
    for (int64_t p = j + 1; p < n; ++p) d -= a[j * stride + p] * a[j * stride + p];
    if (!(d > 0) || !std::isfinite(d)) return false;
    d = std::sqrt(d);
    a[j * stride + j] = d;
    for (int64_t i = 0; i < j; ++i) {
      double s = a[i * stride + j];
      for (int64_t p = j + 1; p < n; ++p) s -= a[i * stride + p] * a[j * stride + p];
      a[i * stride + j] = s / d;
    }
  }
  return true;
}

// x U^T = b and x U = b for rows b [rows, n], in place; U [n, n] upper.
void solve_transposed(int64_t rows, int64_t n, const double* u, int64_t u_stride, double* b,
                      int64_t stride) {
  for (int64_t r = 0; r < rows; ++r) {
    double* x = b + r * stride;
    for (int64_t j = n - 1; j >= 0; --j) {
      double s = x[j];
      for (int64_t p = j + 1; p < n; ++p) s -= x[p] * u[j * u_stride + p];
      x[j] = s / u[j * u_stride + j];
    }
  }
}
void solve_plain(int64_t rows, int64_t n, const double* u, int64_t u_stride, double* b,
                 int64_t stride) {
  for (int64_t r = 0; r < rows; ++r) {
    double* x = b + r * stride;
    for (int64_t j = 0; j < n; ++j) {
      x[j] /= u[j * u_stride + j];
      for (int64_t p = j + 1; p < n; ++p) x[p] -= x[j] * u[j * u_stride + p];
    }
  }
}

}  // namespace

bool upper_cholesky(int64_t n, double* a) {
  const int64_t tiles = ceil_div(n, kTile);
  const auto size = [n](int64_t t) { return std::min(kTile, n - t * kTile); };
  const auto at = [&](int64_t i, int64_t j) { return a + i * kTile * n + j * kTile; };
  // From the last tile: the diagonal, the tiles above it, then what is up and to the left of those.
  for (int64_t t = tiles - 1; t >= 0; --t) {
    if (!cholesky_tile(size(t), at(t, t), n)) return false;
    parallel_for(t,
                 [&](int64_t i) { solve_transposed(size(i), size(t), at(t, t), n, at(i, t), n); });
    parallel_for(t * t, [&](int64_t index) {
      const int64_t i = index / t, j = index % t;
      if (j >= i) {
        subtract_tile(at(i, j), n, at(i, t), n, at(j, t), n, size(i), size(j), size(t), true);
      }
    });
  }
  return true;
}

void solve_upper(int64_t n, const double* u, bool transposed, int64_t rows, double* b) {
  const int64_t tiles = ceil_div(n, kTile);
  const auto size = [n](int64_t t) { return std::min(kTile, n - t * kTile); };
  const auto at = [&](int64_t i, int64_t j) { return u + i * kTile * n + j * kTile; };
  parallel_ranges(rows, kTile, [&](int64_t begin, int64_t end) {
    const int64_t m = end - begin;
    double* x = b + begin * n;
    for (int64_t j = tiles - 1; j >= 0 && transposed; --j) {
      for (int64_t p = j + 1; p < tiles; ++p) {
        subtract_tile(x + j * kTile, n, x + p * kTile, n, at(j, p), n, m, size(j), size(p), true);
      }
      solve_transposed(m, size(j), at(j, j), n, x + j * kTile, n);
    }
    for (int64_t j = 0; j < tiles && !transposed; ++j) {
      for (int64_t p = 0; p < j; ++p) {
        subtract_tile(x + j * kTile, n, x + p * kTile, n, at(p, j), n, m, size(j), size(p), false);
      }
      solve_plain(m, size(j), at(j, j), n, x + j * kTile, n);
    }
  });
}

bool solve_positive(int64_t n, double* a, int64_t rows, double* b) {
  if (!upper_cholesky(n, a)) return false;
  solve_upper(n, a, true, rows, b);
  solve_upper(n, a, false, rows, b);
  return true;
}

void multiply(double alpha, MatrixRef<const double> a, MatrixRef<const double> b, double beta,
              MatrixRef<double> c) {
  const int64_t across = ceil_div(c.columns, kTile);
  parallel_for(ceil_div(c.rows, kTile) * across, [&](int64_t index) {
    thread_local Tile ta, tb, tc;
    const int64_t i = index / across * kTile, j = index % across * kTile;
    const int64_t rows = std::min(kTile, c.rows - i), columns = std::min(kTile, c.columns - j);
    const auto to = c.block(i, j, rows, columns);
    tc.load_scaled(to, beta);
    for (int64_t p = 0; p < a.columns; p += kTile) {
      const int64_t depth = std::min(kTile, a.columns - p);
      ta.load_scaled(a.block(i, p, rows, depth), -alpha);
      tb.load_scaled(b.block(p, j, depth, columns), 1);
      subtract(round_up_to(rows, kRows), round_up_to(columns, kWidth), depth, ta.data.data(),
               tb.data.data(), tc.data.data());
    }
    tc.store(to.data, to.ld, rows, columns);
  });
}

}  // namespace pith
