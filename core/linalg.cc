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

// Tile (i, j) of a matrix.
template <class T>
MatrixRef<T> tile_of(MatrixRef<T> a, int64_t i, int64_t j) {
  const int64_t row = i * kTile, column = j * kTile;
  return a.block(row, column, std::min(kTile, a.rows - row), std::min(kTile, a.columns - column));
}

// A tile of its own memory, rows beyond the matrix zero.
struct Tile {
  Buffer<double> data{kTile * kTile};

  void load(MatrixRef<const double> from) {
    std::fill(data.begin(), data.end(), 0.0);
    const bool transposed = from.transposed;
    const MatrixRef<const double> lies = transposed ? from.t() : from;  // in the order of memory
    for (int64_t i = 0; i < lies.rows; ++i) {
      for (int64_t j = 0; j < lies.columns; ++j)
        data[transposed ? j * kTile + i : i * kTile + j] = lies.row(i)[j];
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
  void store(MatrixRef<double> to) const {
    for (int64_t i = 0; i < to.rows; ++i)
      std::copy(&data[i * kTile], &data[i * kTile] + to.columns, to.row(i));
  }
};

// c -= a b, of at most a tile each.
void subtract_tile(MatrixRef<double> c, MatrixRef<const double> a, MatrixRef<const double> b) {
  thread_local Tile ta, tb, tc;
  ta.load(a);
  tb.load(b);
  tc.load(c);
  subtract(round_up_to(c.rows, kRows), round_up_to(c.columns, kWidth), a.columns, ta.data.data(),
           tb.data.data(), tc.data.data());
  tc.store(c);
}

// a [n, n] = U U^T, upper triangle in place, column after column from the last.
bool cholesky_tile(MatrixRef<double> a) {
  const int64_t n = a.rows;
  for (int64_t j = n - 1; j >= 0; --j) {
    double* const row = a.row(j);
    double d = row[j];
    for (int64_t p = j + 1; p < n; ++p) d -= row[p] * row[p];
    if (!(d > 0) || !std::isfinite(d)) return false;
    d = std::sqrt(d);
    row[j] = d;
    for (int64_t i = 0; i < j; ++i) {
      double s = a.row(i)[j];
      for (int64_t p = j + 1; p < n; ++p) s -= a.row(i)[p] * row[p];
      a.row(i)[j] = s / d;
    }
  }
  return true;
}

// x U^T = b and x U = b for rows b [rows, n], in place; U [n, n] upper.
void solve_transposed(MatrixRef<const double> u, MatrixRef<double> b) {
  for (int64_t r = 0; r < b.rows; ++r) {
    double* const x = b.row(r);
    for (int64_t j = u.rows - 1; j >= 0; --j) {
      double s = x[j];
      for (int64_t p = j + 1; p < u.rows; ++p) s -= x[p] * u.row(j)[p];
      x[j] = s / u.row(j)[j];
    }
  }
}
void solve_plain(MatrixRef<const double> u, MatrixRef<double> b) {
  for (int64_t r = 0; r < b.rows; ++r) {
    double* const x = b.row(r);
    for (int64_t j = 0; j < u.rows; ++j) {
      x[j] /= u.row(j)[j];
      for (int64_t p = j + 1; p < u.rows; ++p) x[p] -= x[j] * u.row(j)[p];
    }
  }
}

}  // namespace

bool upper_cholesky(int64_t n, double* a) {
  const int64_t tiles = ceil_div(n, kTile);
  const MatrixRef<double> whole(a, n, n);
  const auto at = [&](int64_t i, int64_t j) { return tile_of(whole, i, j); };
  // From the last tile: the diagonal, the tiles above it, then what is up and to the left of those.
  for (int64_t t = tiles - 1; t >= 0; --t) {
    if (!cholesky_tile(at(t, t))) return false;
    parallel_for(t, [&](int64_t i) { solve_transposed(at(t, t), at(i, t)); });
    parallel_for(t * t, [&](int64_t index) {
      const int64_t i = index / t, j = index % t;
      if (j >= i) subtract_tile(at(i, j), at(i, t), at(j, t).t());
    });
  }
  return true;
}

void solve_upper(int64_t n, const double* u, bool transposed, int64_t rows, double* b) {
  const int64_t tiles = ceil_div(n, kTile);
  const MatrixRef<const double> whole(u, n, n);
  const auto at = [&](int64_t i, int64_t j) { return tile_of(whole, i, j); };
  parallel_ranges(rows, kTile, [&](int64_t begin, int64_t end) {
    const MatrixRef<double> some(b + begin * n, end - begin, n);  // fewer rows than a tile has
    const auto x = [&](int64_t j) { return tile_of(some, 0, j); };
    for (int64_t j = tiles - 1; j >= 0 && transposed; --j) {
      for (int64_t p = j + 1; p < tiles; ++p) subtract_tile(x(j), x(p), at(j, p).t());
      solve_transposed(at(j, j), x(j));
    }
    for (int64_t j = 0; j < tiles && !transposed; ++j) {
      for (int64_t p = 0; p < j; ++p) subtract_tile(x(j), x(p), at(p, j));
      solve_plain(at(j, j), x(j));
    }
  });
}

void multiply(double alpha, MatrixRef<const double> a, MatrixRef<const double> b, double beta,
              MatrixRef<double> c) {
  const int64_t across = ceil_div(c.columns, kTile);
  parallel_for(ceil_div(c.rows, kTile) * across, [&](int64_t index) {
    thread_local Tile ta, tb, tc;
    const int64_t i = index / across, j = index % across;
    const MatrixRef<double> to = tile_of(c, i, j);
    tc.load_scaled(to, beta);
    for (int64_t p = 0; p * kTile < a.columns; ++p) {
      const MatrixRef<const double> left = tile_of(a, i, p);
      ta.load_scaled(left, -alpha);
      tb.load_scaled(tile_of(b, p, j), 1);
      subtract(round_up_to(to.rows, kRows), round_up_to(to.columns, kWidth), left.columns,
               ta.data.data(), tb.data.data(), tc.data.data());
    }
    tc.store(to);
  });
}

}  // namespace pith
