#include "runtime/cuda/gpu_algebra.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/bytes.h"
#include "core/linalg.h"

namespace pith {
namespace {

using cuda::Ops;

constexpr int64_t kTile = cuda::kCholeskyTile;

template <class T>
cuda::Factor<T> factor(MatrixRef<const T> a) {
  return {a.data, a.ld, a.transposed};
}
template <class T>
cuda::Gemm<T> product(T alpha, MatrixRef<const T> a, MatrixRef<const T> b, T beta, MatrixRef<T> c,
                      bool upper = false) {
  return {c.rows, c.columns, a.columns, factor(a), factor(b), c.data, c.ld, alpha, beta, upper};
}
template <class T>
GpuBuffer table(GpuDevice& device, std::span<const T> from) {
  return {device, from.data(), from.size_bytes()};
}

}  // namespace

void* GpuAlgebra::allocate(uint64_t bytes) { return bytes > 0 ? gpu_.allocate(bytes) : nullptr; }
void GpuAlgebra::release(void* p) noexcept {
  if (p != nullptr) gpu_.ops().release(p);
}

void GpuAlgebra::gemm(float alpha, MatrixRef<const float> a, MatrixRef<const float> b, float beta,
                      MatrixRef<float> c) {
  gpu_.run(&Ops::gemm_f32, product(alpha, a, b, beta, c));
}
void GpuAlgebra::gemm(double alpha, MatrixRef<const double> a, MatrixRef<const double> b,
                      double beta, MatrixRef<double> c) {
  gpu_.run(&Ops::gemm_f64, product(alpha, a, b, beta, c));
}

void GpuAlgebra::add_scaled(float by, MatrixRef<const float> x, MatrixRef<float> y) {
  gpu_.run(&Ops::add_scaled, {x.data, by, y.rows * y.columns, y.data});
}
double GpuAlgebra::dot(MatrixRef<const float> a, MatrixRef<const float> b) {
  const GpuBuffer sums(gpu_, static_cast<uint64_t>(a.columns) * sizeof(double));
  gpu_.run(&Ops::column_sums, {a.data, b.data, a.columns, a.rows, nullptr, 1, sums.data<double>()});
  std::vector<double> to(static_cast<size_t>(a.columns));
  gpu_.download(to.data(), sums.data(), sums.bytes());
  return std::accumulate(to.begin(), to.end(), 0.0);
}
void GpuAlgebra::convert(MatrixRef<const float> from, MatrixRef<double> to) {
  gpu_.run(&Ops::f32_to_f64, {from.data, to.rows * to.columns, to.data});
}
void GpuAlgebra::convert(MatrixRef<const double> from, MatrixRef<float> to) {
  gpu_.run(&Ops::f64_to_f32, {from.data, to.rows * to.columns, to.data});
}
void GpuAlgebra::permute_and_damp(MatrixRef<const float> a, std::span<const int64_t> order,
                                  std::span<const float> diagonal, double unit, double damping,
                                  MatrixRef<double> to) {
  const std::vector<int32_t> places(order.begin(), order.end());
  const GpuBuffer there = table<int32_t>(gpu_, places), on_diagonal = table(gpu_, diagonal);
  gpu_.run(&Ops::reorder, {a.data, order.empty() ? nullptr : there.data<int32_t>(),
                           on_diagonal.data<float>(), to.rows, unit, damping, to.data});
  gpu_.wait();
}

void GpuAlgebra::add_to_mean(int64_t before, MatrixRef<const float> y, MatrixRef<const float> x,
                             MatrixRef<float> mean) {
  const double all = static_cast<double>(before + x.rows);
  gpu_.run(gpu_.ops().has_cublas() ? &Ops::gemm_tf32 : &Ops::gemm_f32,
           product(static_cast<float>(1 / all), y.t(), x,
                   static_cast<float>(static_cast<double>(before) / all), mean, x.data == y.data));
}
void GpuAlgebra::add_to_moments(int64_t before, MatrixRef<const float> x,
                                MatrixRef<double> mean_square, MatrixRef<float> absmax) {
  const double all = static_cast<double>(before + x.rows);
  gpu_.run(&Ops::channel_sums, {x.data, x.rows, x.columns, static_cast<double>(before) / all,
                                1 / all, mean_square.data, absmax.data});
}

bool GpuAlgebra::cholesky(Matrix<double>& a) {
  const int64_t n = a.rows();
  const GpuBuffer failed(gpu_, sizeof(int32_t));
  // From the last tile: the diagonal, what is above it, then all that is up and to the left.
  for (int64_t t = (ceil_div(n, kTile) - 1) * kTile; t >= 0; t -= kTile) {
    const int64_t width = std::min(kTile, n - t);
    const auto corner = a.ref().block(t, t, width, width), above = a.ref().block(0, t, t, width);
    gpu_.run(&Ops::cholesky_tile, {corner.data, n, width, failed.data<int32_t>()});
    if (t == 0) break;
    gpu_.run(&Ops::triangular_solve, {corner.data, n, width, true, above.data, n, t});
    gpu_.run(&Ops::gemm_f64,
             product<double>(-1, above, above.t(), 1, a.ref().block(0, 0, t, t), true));
  }
  int32_t bad = 0;
  gpu_.download(&bad, failed.data(), sizeof bad);
  return bad == 0;
}

void GpuAlgebra::solve_upper(const Matrix<double>& u, bool transposed, MatrixRef<double> b) {
  const int64_t n = u.rows(), last = (ceil_div(n, kTile) - 1) * kTile;
  const auto solve = [&](int64_t t, int64_t width) {
    gpu_.run(&Ops::triangular_solve,
             {u.data() + t * n + t, n, width, transposed, b.data + t, b.ld, b.rows});
  };
  for (int64_t t = last; t >= 0 && transposed; t -= kTile) {
    const int64_t width = std::min(kTile, n - t), end = t + width;
    if (end < n) {
      gemm(-1, b.block(0, end, b.rows, n - end), u.ref().block(t, end, width, n - end).t(), 1,
           b.block(0, t, b.rows, width));
    }
    solve(t, width);
  }
  for (int64_t t = 0; t <= last && !transposed; t += kTile) {
    const int64_t width = std::min(kTile, n - t);
    if (t > 0) {
      gemm(-1, b.block(0, 0, b.rows, t), u.ref().block(0, t, t, width), 1,
           b.block(0, t, b.rows, width));
    }
    solve(t, width);
  }
}

// a^T a = U U^T, then a U^-T has orthonormal columns but for rounding, and a second pass, over
// columns that are nearly orthonormal, has none to speak of. False where they are not: a is lost.
bool GpuAlgebra::cholesky_qr(Matrix<double>& a) {
  const int64_t n = a.columns();
  Matrix<double> u(*this, n, n);
  std::vector<double> gram(static_cast<size_t>(n * n));
  for (int pass = 0; pass < 2; ++pass) {
    gemm(1, a.t(), a, 0, u);
    if (pass > 0) {
      download(u.ref(), gram.data());
      for (int64_t i = 0; i < n * n; ++i) {
        const double off = gram[static_cast<size_t>(i)] - (i % (n + 1) == 0 ? 1 : 0);
        if (!(std::fabs(off) * static_cast<double>(n) < 0.01)) return false;
      }
    }
    if (!cholesky(u)) return false;
    solve_upper(u, true, a);
  }
  return true;
}

Matrix<double> GpuAlgebra::qr(Matrix<double>& a) {
  const int64_t m = a.rows(), n = a.columns();
  Matrix<double> before(*this, m, n), r(*this, n, n);
  copy(a.ref(), before.ref());
  if (!cholesky_qr(a)) {
    Buffer<double> host(m * n), triangle(n * n);
    download(before.ref(), host.data());
    pith::qr(m, n, host.data(), triangle.data());
    upload(host.data(), a.ref());
  }
  gemm(1, a.t(), before, 0, r);
  return r;
}

int64_t GpuAlgebra::panel_rows(uint64_t row_bytes) {
  constexpr uint64_t kWorkspace = uint64_t{2} << 30;
  constexpr int64_t kMax = 8192, kStep = 128;
  const auto rows = static_cast<int64_t>(kWorkspace / row_bytes);
  return std::clamp(rows / kStep * kStep, kStep, kMax);
}

void GpuAlgebra::for_row_panels(int64_t n, int64_t step, uint64_t row_bytes,
                                FunctionRef<void(int64_t, int64_t)> body) {
  const int64_t rows = ceil_div(panel_rows(row_bytes), step) * step;
  for (int64_t begin = 0; begin < n; begin += rows) body(begin, std::min(n, begin + rows));
}

}  // namespace pith
