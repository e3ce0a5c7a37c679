#include "runtime/cuda/gpu_algebra.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "core/bytes.h"
#include "core/parallel.h"

namespace pith {
namespace {

using cuda::Ops;

constexpr int64_t kTile = cuda::kFactorTile;

// c[m, n] -= a b, for parts of matrices in f64.
void subtract(GpuDevice& device, int64_t m, int64_t n, int64_t k, cuda::Factor<double> a,
              cuda::Factor<double> b, double* c, int64_t ldc, bool upper = false) {
  device.run(&Ops::gemm_f64, {m, n, k, a, b, c, ldc, -1, 1, upper});
}

}  // namespace

void gpu_multiply(GpuDevice& device, int64_t m, int64_t n, int64_t k, cuda::Factor<float> a,
                  cuda::Factor<float> b, float* c, float alpha, float beta) {
  device.run(&Ops::gemm_f32, {m, n, k, a, b, c, n, alpha, beta, false});
}

bool gpu_upper_cholesky(GpuDevice& device, GpuMatrix<double>& a) {
  const int64_t n = a.rows;
  const GpuBuffer failed(device, sizeof(int32_t));
  // From the last tile: the diagonal, what is above it, then all that is up and to the left.
  for (int64_t t = (ceil_div(n, kTile) - 1) * kTile; t >= 0; t -= kTile) {
    const int64_t width = std::min(kTile, n - t);
    double* const corner = a.data() + t * n + t;
    double* const above = a.data() + t;
    device.run(&Ops::factor_tile, {corner, n, width, failed.data<int32_t>()});
    if (t == 0) break;
    device.run(&Ops::solve_tile, {corner, n, width, true, above, n, t});
    subtract(device, t, t, width, {above, n, false}, {above, n, true}, a.data(), n, true);
  }
  int32_t bad = 0;
  device.download(&bad, failed.data(), sizeof bad);
  return bad == 0;
}

bool gpu_solve_positive(GpuDevice& device, GpuMatrix<double>& a, GpuMatrix<double>& b) {
  if (!gpu_upper_cholesky(device, a)) return false;
  const int64_t n = a.rows, last = (ceil_div(n, kTile) - 1) * kTile;
  const auto solve = [&](int64_t t, bool transposed) {
    device.run(&Ops::solve_tile, {a.data() + t * n + t, n, std::min(kTile, n - t), transposed,
                                  b.data() + t, n, b.rows});
  };
  for (int64_t t = last; t >= 0; t -= kTile) {  // x U^T = b
    const int64_t width = std::min(kTile, n - t), end = t + width;
    if (end < n) {
      subtract(device, b.rows, width, n - end, {b.data() + end, n, false},
               {a.data() + t * n + end, n, true}, b.data() + t, n);
    }
    solve(t, true);
  }
  for (int64_t t = 0; t <= last; t += kTile) {  // x U = that
    if (t > 0) {
      subtract(device, b.rows, std::min(kTile, n - t), t, {b.data(), n, false},
               {a.data() + t, n, false}, b.data() + t, n);
    }
    solve(t, false);
  }
  return true;
}

double gpu_dot(GpuDevice& device, int64_t rows, int64_t columns, const float* a, const float* b) {
  const GpuMatrix<double> sums(device, 1, columns);
  device.run(&Ops::column_sums, {a, b, columns, rows, nullptr, 1, sums.data()});
  std::vector<double> to(static_cast<size_t>(columns));
  device.download(to.data(), sums.data(), sums.buffer.bytes());
  return std::accumulate(to.begin(), to.end(), 0.0);
}

void GpuProductMean::add(int64_t before, int64_t m, const float* x, const float* y) {
  symmetric_ = x == y;
  const int64_t n = mean_.rows, k = mean_.columns;
  const double all = static_cast<double>(before + m);
  device_.run(device_.ops().has_cublas() ? &Ops::gemm_tf32 : &Ops::gemm_f32,
              {n,
               k,
               m,
               {x, n, true},
               {y, k, false},
               mean_.data(),
               k,
               static_cast<float>(1 / all),
               static_cast<float>(static_cast<double>(before) / all),
               symmetric_});
}

void GpuProductMean::read(Buffer<float>* to) {
  const int64_t k = mean_.columns;
  *to = Buffer<float>(mean_.rows * k);
  device_.download(to->data(), mean_.data(), mean_.buffer.bytes());
  if (!symmetric_) return;
  constexpr int64_t kSide = 64;  // so that both sides of the mirror lie in a cache
  parallel_for(ceil_div(k, kSide), [&](int64_t band) {
    const int64_t row0 = band * kSide, row_end = std::min(k, row0 + kSide);
    for (int64_t column0 = 0; column0 <= row0; column0 += kSide) {
      for (int64_t r = row0; r < row_end; ++r) {
        for (int64_t c = column0; c < std::min(r, column0 + kSide); ++c)
          (*to)[r * k + c] = (*to)[c * k + r];
      }
    }
  });
}

}  // namespace pith
