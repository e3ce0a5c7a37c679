// Dense linear algebra in f32 and f64: GEMM, Cholesky tiles, triangular solves.
#include "runtime/cuda_kernels/compress/dense_algebra.h"

#include "runtime/cuda_kernels/device/device.cuh"
#include "runtime/cuda_kernels/gemm/convert.cuh"
#include "runtime/cuda_kernels/launchers.h"
#include "runtime/cuda_kernels/refuse.h"

namespace pith::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kDepth = 8;  // of a step

PITH_DEVICE float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
PITH_DEVICE double multiply_add(double a, double b, double c) { return fma(a, b, c); }

// Loads four numbers from shared memory, at a multiple of 16 bytes.
template <class T>
PITH_DEVICE void load_four(const T* from, T* to) {
  constexpr int kTogether = 16 / sizeof(T);
  struct alignas(16) Together {
    T v[kTogether];
  };
#pragma unroll
  for (int i = 0; i < 4; i += kTogether) {
    const Together t = *reinterpret_cast<const Together*>(from + i);
#pragma unroll
    for (int j = 0; j < kTogether; ++j) to[i + j] = t.v[j];
  }
}

// Steps of a factor as [depth][tile] in shared memory, by way of registers. Neighbouring threads
// fetch what lies together: rows of one depth, or depths of one row.
template <class T, int kTile>
struct Steps {
  static constexpr int kLoads = kTile * kDepth / kThreads, kStride = kTile + 4;
  const T* next;
  int apart, forward;  // of the loads of a thread; of steps
  int rows, depths;    // that are left, from this thread's first
  bool rows_together;
  T held[kLoads];

  PITH_MEMBER Steps(const T* p, int64_t ld, bool together, int64_t row0, int64_t all_rows,
                    int64_t k)
      : rows_together(together) {
    const int row = together ? thread_index() % kTile : thread_index() / kDepth;
    const int depth = together ? thread_index() / kTile : thread_index() % kDepth;
    const int64_t by_row = together ? 1 : ld, by_depth = together ? ld : 1;
    next = p + (row0 + row) * by_row + depth * by_depth;
    apart = static_cast<int>((together ? kThreads / kTile : kThreads / kDepth) * ld);
    forward = static_cast<int>(kDepth * by_depth);
    rows = static_cast<int>(all_rows - row0 < kTile ? all_rows - row0 : kTile) - row;
    depths = static_cast<int>(k) - depth;
  }
  PITH_MEMBER void fetch() {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const bool inside = rows_together ? rows > 0 && depths > i * (kThreads / kTile)
                                        : rows > i * (kThreads / kDepth) && depths > 0;
      held[i] = inside ? next[i * apart] : T(0);
    }
    next += forward;
    depths -= kDepth;
  }
  PITH_MEMBER void store(T* to) const {
    const int at = rows_together ? thread_index() / kTile * kStride + thread_index() % kTile
                                 : thread_index() % kDepth * kStride + thread_index() / kDepth;
    const int step = rows_together ? kThreads / kTile * kStride : kThreads / kDepth;
#pragma unroll
    for (int i = 0; i < kLoads; ++i) to[at + i * step] = held[i];
  }
};

// c = beta c + alpha a b
//
// grid    x: columns / kTile, y: rows / kTile; 16 x 16 threads, kEach x kEach sums each
// shared  two steps of both factors
// bound   multiply-adds outside of tensor cores: 2 kEach numbers from shared memory, four at a
//         time, for kEach^2 of them
template <class T, int kEach>
PITH_KERNEL PITH_BLOCKS(kThreads, 2) gemm_kernel(Gemm<T> g) {
  constexpr int kTile = 16 * kEach;  // four sums in a row, then four 64 on
  using Stepped = Steps<T, kTile>;
  constexpr int kStep = kDepth * Stepped::kStride;
  const int64_t row0 = block_y() * kTile, column0 = block_x() * kTile;
  if (g.upper && row0 >= column0 + kTile) return;
  T* const workspace = reinterpret_cast<T*>(shared_memory());  // [2][a, b][kStep]
  const int y = thread_index() / 16 * 4, x = thread_index() % 16 * 4;
  T sums[kEach][kEach] = {};
  Stepped a(g.a.data, g.a.ld, g.a.transposed, row0, g.m, g.k);
  Stepped b(g.b.data, g.b.ld, !g.b.transposed, column0, g.n, g.k);
  const int64_t steps = (g.k + kDepth - 1) / kDepth;
  a.fetch();
  b.fetch();
  a.store(workspace);
  b.store(workspace + kStep);
  for (int64_t s = 0; s < steps; ++s) {
    sync_block();
    const bool more = s + 1 < steps;
    if (more) {
      a.fetch();
      b.fetch();
    }
    const T* const here = workspace + s % 2 * 2 * kStep;
#pragma unroll 2
    for (int d = 0; d < kDepth; ++d) {
      T left[kEach], right[kEach];
#pragma unroll
      for (int i = 0; i < kEach; i += 4) {
        load_four(here + d * Stepped::kStride + i * 16 + y, left + i);
        load_four(here + kStep + d * Stepped::kStride + i * 16 + x, right + i);
      }
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
#pragma unroll
        for (int j = 0; j < kEach; ++j) sums[i][j] = multiply_add(left[i], right[j], sums[i][j]);
      }
    }
    if (more) {
      T* const next = workspace + (s + 1) % 2 * 2 * kStep;
      a.store(next);
      b.store(next + kStep);
    }
  }
  // What is left of the matrix from the first of this thread's sums on.
  const int rows = static_cast<int>(g.m - row0 < kTile ? g.m - row0 : kTile) - y,
            columns = static_cast<int>(g.n - column0 < kTile ? g.n - column0 : kTile) - x;
  T* const to = g.c + (row0 + y) * g.ldc + column0 + x;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int row = i / 4 * 64 + i % 4;
    T* const line = to + row * g.ldc;
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int column = j / 4 * 64 + j % 4;
      if (row >= rows || column >= columns) continue;
      const T product = g.alpha * sums[i][j];
      line[column] = g.beta == 0 ? product : multiply_add(g.beta, line[column], product);
    }
  }
}

constexpr int64_t kMaxLd = INT32_MAX / kThreads;

template <class T, int kEach>
Status run_gemm(const Gemm<T>& g, Stream stream) {
  constexpr int kTile = 16 * kEach;
  const Grid grid{(g.n + kTile - 1) / kTile, (g.m + kTile - 1) / kTile, 1, kThreads,
                  4 * kDepth * Steps<T, kTile>::kStride * static_cast<int64_t>(sizeof(T))};
  if (grid.y > 65535 || g.k > INT32_MAX || g.a.ld > kMaxLd || g.b.ld > kMaxLd)
    return "gemm: more than it takes";
  return launch(gemm_kernel<T, kEach>, grid, stream, g);
}

constexpr int kSide = static_cast<int>(kCholeskyTile);

// a = U U^T, column after column from the last.
//
// grid    one block of 64 threads, thread i for row i
// shared  the tile, rows 65 apart
// bound   latency: 64 steps of up to 64 multiply-adds and two barriers
PITH_KERNEL cholesky_kernel(CholeskyTile a) {
  double* const tile = reinterpret_cast<double*>(shared_memory());
  const int n = static_cast<int>(a.n), t = thread_index();
  for (int i = 0; i < n; ++i) {
    if (t < n) tile[i * 65 + t] = a.a[i * a.ld + t];
  }
  for (int j = n - 1; j >= 0; --j) {
    sync_block();
    const double d = tile[j * 65 + j];
    if (!(d > 0) || !(d < 1e300)) {  // the same for all
      if (t == 0) *a.failed = 1;
      return;
    }
    const double root = sqrt(d);
    sync_block();
    if (t == j) tile[j * 65 + j] = root;
    if (t < j) tile[t * 65 + j] /= root;
    sync_block();
    if (t < j) {
      const double x = -tile[t * 65 + j];
      for (int p = t; p < j; ++p) tile[t * 65 + p] = fma(x, tile[p * 65 + j], tile[t * 65 + p]);
    }
  }
  sync_block();
  for (int i = 0; i < n; ++i) {
    if (t >= i && t < n) a.a[i * a.ld + t] = tile[i * 65 + t];
  }
}

// x u = b or x u^T = b
//
// grid    x: rows / 64; 64 threads, a row each
// shared  u and the rows, 65 apart
// bound   latency of shared memory: 2016 dependent multiply-adds a row
PITH_KERNEL triangular_solve_kernel(TriangularSolve a) {
  double* const u = reinterpret_cast<double*>(shared_memory());
  double* const x = u + kSide * 65;
  const int n = static_cast<int>(a.n), t = thread_index();
  const int64_t row0 = block_x() * kSide;
  for (int i = 0; i < n; ++i) {
    if (t >= i && t < n) u[i * 65 + t] = a.u[i * a.ldu + t];
  }
  for (int i = 0; i < kSide && row0 + i < a.rows; ++i) {
    if (t < n) x[i * 65 + t] = a.b[(row0 + i) * a.ldb + t];
  }
  sync_block();
  double* const mine = x + t * 65;
  if (row0 + t < a.rows) {
    for (int i = 0; i < n; ++i) {
      const int j = a.transposed ? n - 1 - i : i;
      double sum = mine[j];
      for (int p = 0; p < i; ++p) {
        const int q = a.transposed ? n - 1 - p : p;
        sum = fma(-mine[q], a.transposed ? u[j * 65 + q] : u[q * 65 + j], sum);
      }
      mine[j] = sum / u[j * 65 + j];
    }
  }
  sync_block();
  for (int i = 0; i < kSide && row0 + i < a.rows; ++i) {
    if (t < n) a.b[(row0 + i) * a.ldb + t] = x[i * 65 + t];
  }
}

// grid    x: rows; bound by bytes
PITH_KERNEL reorder_kernel(Reorder a) {
  const int64_t i = block_x(), row = a.order != nullptr ? a.order[i] : i;
  for (int64_t j = thread_index(); j < a.k; j += kThreads) {
    const int64_t column = a.order != nullptr ? a.order[j] : j;
    const double v = i == j ? static_cast<double>(a.diagonal[row]) + a.add
                            : static_cast<double>(a.from[row * a.k + column]) * a.scale;
    a.to[i * a.k + j] = v;
  }
}

// grid    x: rows; bound by bytes
PITH_KERNEL unit_upper_kernel(UnitUpper a) {
  const int64_t i = block_x();
  for (int64_t j = thread_index(); j < a.k; j += kThreads) {
    a.feedback[i * a.k + j] =
        j < i ? 0.0f : static_cast<float>(a.u[i * a.k + j] / a.u[j * a.k + j]);
  }
  const double d = a.u[i * a.k + i];
  if (thread_index() == 0) a.variance[i] = static_cast<float>(d * d);
}

// grid    x: numbers / 256
PITH_KERNEL f32_to_f64_kernel(F32ToF64 a) {
  const int64_t i = block_x() * kThreads + thread_index();
  if (i < a.n) a.to[i] = static_cast<double>(a.from[i]);
}
PITH_KERNEL add_scaled_kernel(AddScaled a) {
  const int64_t i = block_x() * kThreads + thread_index();
  if (i < a.n) a.y[i] = fmaf(a.by, a.x[i], a.y[i]);
}
PITH_KERNEL f64_to_f32_kernel(F64ToF32 a) {
  const int64_t i = block_x() * kThreads + thread_index();
  if (i < a.n) a.to[i] = static_cast<float>(a.from[i]);
}

// grid    x: columns / 256, y: sums; bound by bytes where there are many sums, else by latency
PITH_KERNEL column_sums_kernel(ColumnSums a) {
  const int64_t c = block_x() * kThreads + thread_index(), i = block_y();
  if (c >= a.columns) return;
  const int64_t origin = a.starts != nullptr ? a.starts[0] : 0;
  const int64_t begin = a.starts != nullptr ? a.starts[i] - origin : 0,
                end = a.starts != nullptr ? a.starts[i + 1] - origin : a.rows;
  double sum = 0;
#pragma unroll 8
  for (int64_t r = begin; r < end; ++r) {
    sum = fma(static_cast<double>(a.a[r * a.columns + c]),
              static_cast<double>(a.b[r * a.columns + c]), sum);
  }
  a.sums[i * a.columns + c] = sum;
}

// grid    x: columns / 256; bound by latency: m loads of which 8 are on their way at once
PITH_KERNEL channel_sums_kernel(ChannelSums a) {
  const int64_t c = block_x() * kThreads + thread_index();
  if (c >= a.k) return;
  double sum = 0;
  float most = a.absmax[c];
#pragma unroll 8
  for (int64_t r = 0; r < a.m; ++r) {
    const float v = a.x[r * a.k + c];
    sum = fma(static_cast<double>(v), static_cast<double>(v), sum);
    most = larger(fabsf(v), most);
  }
  a.squares[c] = (a.keep == 0 ? 0 : a.squares[c] * a.keep) + sum * a.add;
  a.absmax[c] = most;
}

constexpr int64_t blocks_of(int64_t n) { return (n + kThreads - 1) / kThreads; }
constexpr int64_t kTileBytes = kSide * 65 * static_cast<int64_t>(sizeof(double));

}  // namespace

// Tiles of 128 x 128 where they are enough to fill a large chip, else of 64 x 64.
Status gemm_f32(const Gemm<float>& g, Stream stream) {
  const int64_t tiles = (g.m + 127) / 128 * ((g.n + 127) / 128);
  return tiles >= 128 ? run_gemm<float, 8>(g, stream) : run_gemm<float, 4>(g, stream);
}
Status gemm_f64(const Gemm<double>& g, Stream stream) { return run_gemm<double, 4>(g, stream); }
Status cholesky_tile(const CholeskyTile& a, Stream stream) {
  if (a.n < 1 || a.n > kCholeskyTile)
    return refuse("cholesky: a tile of %ld, it takes %ld", a.n, kCholeskyTile);
  return launch(cholesky_kernel, Grid{1, 1, 1, kSide, kTileBytes}, stream, a);
}
Status triangular_solve(const TriangularSolve& a, Stream stream) {
  if (a.n < 1 || a.n > kCholeskyTile)
    return refuse("solve: a tile of %ld, it takes %ld", a.n, kCholeskyTile);
  return launch(triangular_solve_kernel,
                Grid{(a.rows + kSide - 1) / kSide, 1, 1, kSide, 2 * kTileBytes}, stream, a);
}
Status reorder(const Reorder& a, Stream stream) {
  return launch(reorder_kernel, Grid{a.k, 1, 1, kThreads}, stream, a);
}
Status unit_upper(const UnitUpper& a, Stream stream) {
  return launch(unit_upper_kernel, Grid{a.k, 1, 1, kThreads}, stream, a);
}
Status f32_to_f64(const F32ToF64& a, Stream stream) {
  return launch(f32_to_f64_kernel, Grid{blocks_of(a.n), 1, 1, kThreads}, stream, a);
}
Status add_scaled(const AddScaled& a, Stream stream) {
  return launch(add_scaled_kernel, Grid{blocks_of(a.n), 1, 1, kThreads}, stream, a);
}
Status f64_to_f32(const F64ToF32& a, Stream stream) {
  return launch(f64_to_f32_kernel, Grid{blocks_of(a.n), 1, 1, kThreads}, stream, a);
}
Status channel_sums(const ChannelSums& a, Stream stream) {
  return launch(channel_sums_kernel, Grid{blocks_of(a.k), 1, 1, kThreads}, stream, a);
}
Status column_sums(const ColumnSums& a, Stream stream) {
  return launch(column_sums_kernel, Grid{blocks_of(a.columns), a.count, 1, kThreads}, stream, a);
}

}  // namespace pith::cuda
