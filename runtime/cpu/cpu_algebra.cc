#include "runtime/cpu/cpu_algebra.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "core/bytes.h"
#include "core/linalg.h"
#include "core/parallel.h"
#include "runtime/cpu/kernels.h"

namespace pith {
namespace {

constexpr int64_t kPanelRows = 48;     // 4 tiles of the matrix kernel, 3 vectors of lanes of GPTQ
constexpr int64_t kNumbers = 1 << 16;  // of a plain loop on one thread
constexpr int64_t kTile = 192;         // of a product; 16 tiles of rows and 6 panels of the kernel

// c = beta c + alpha a b for a tile of c.
void gemm_tile(float alpha, MatrixRef<const float> a, MatrixRef<const float> b, float beta,
               MatrixRef<float> c) {
  constexpr int64_t kDepth = 256, kStride = kDepth + 16;  // off a power of two: lines of their own
  thread_local Buffer<float> left, panel, product;
  left.require(kTile * kStride);
  panel.require(32 * kDepth);
  product.require(kTile * kTile);
  for (int64_t p = 0; p < a.columns || p == 0; p += kDepth) {
    const int64_t depth = std::min(kDepth, a.columns - p);
    if (a.transposed) {
      for (int64_t t = 0; t < depth; ++t) {
        const float* from = a.data + (p + t) * a.ld;
        for (int64_t i = 0; i < a.rows; ++i) left[i * kStride + t] = from[i];
      }
    } else {
      for (int64_t i = 0; i < a.rows; ++i)
        std::copy(a.data + i * a.ld + p, a.data + i * a.ld + p + depth, &left[i * kStride]);
    }
    for (int64_t j = 0; j < b.columns; j += 32) {
      const int64_t width = std::min<int64_t>(32, b.columns - j);
      for (int64_t t = 0; t < depth; ++t) {
        float* to = panel.data() + t * 32;
        if (b.transposed) {
          for (int64_t i = 0; i < width; ++i) to[i] = b.data[(j + i) * b.ld + p + t];
        } else {
          const float* from = b.data + (p + t) * b.ld + j;
          std::copy(from, from + width, to);
        }
      }
      cpu_kernels().gemm(a.rows, width, depth, left.data(), kStride, panel.data(), 32,
                         product.data() + j, kTile, p > 0);
    }
  }
  for (int64_t i = 0; i < c.rows; ++i) {
    float* to = c.data + i * c.ld;
    for (int64_t j = 0; j < c.columns; ++j)
      to[j] = (beta == 0 ? 0.0f : to[j] * beta) + product[i * kTile + j] * alpha;
  }
}

// `upper`: tiles that lie wholly below the diagonal of c are left as they are.
void gemm_tiles(float alpha, MatrixRef<const float> a, MatrixRef<const float> b, float beta,
                MatrixRef<float> c, bool upper) {
  const int64_t across = ceil_div(c.columns, kTile);
  parallel_for(ceil_div(c.rows, kTile) * across, [&](int64_t index) {
    const int64_t i = index / across * kTile, j = index % across * kTile;
    if (upper && j < i) return;
    const int64_t rows = std::min(kTile, c.rows - i), columns = std::min(kTile, c.columns - j);
    gemm_tile(alpha, a.row_block(i, rows), b.block(0, j, b.rows, columns), beta,
              c.block(i, j, rows, columns));
  });
}

class CpuAlgebra final : public Algebra {
 public:
  std::string name() const override { return std::string("CPU, ") + cpu_kernels().name; }
  std::string device() const override { return ""; }
  std::optional<uint64_t> free_bytes() const override { return std::nullopt; }

  void* allocate(uint64_t bytes) override { return allocate_aligned(bytes, 1); }
  void release(void* p) noexcept override { free_aligned(static_cast<std::byte*>(p)); }
  void upload(void* to, const void* from, uint64_t bytes) override { copy(to, from, bytes); }
  void download(void* to, const void* from, uint64_t bytes) override { copy(to, from, bytes); }
  void copy(void* to, const void* from, uint64_t bytes) override {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }

  void gemm(float alpha, MatrixRef<const float> a, MatrixRef<const float> b, float beta,
            MatrixRef<float> c) override {
    if (alpha != 1 || (beta != 0 && beta != 1) || a.transposed || b.transposed)
      return gemm_tiles(alpha, a, b, beta, c, false);
    parallel_ranges(c.rows, kPanelRows, [&](int64_t begin, int64_t end) {
      cpu_kernels().gemm(end - begin, c.columns, a.columns, a.data + begin * a.ld, a.ld, b.data,
                         b.ld, c.data + begin * c.ld, c.ld, beta == 1);
    });
  }
  void gemm(double alpha, MatrixRef<const double> a, MatrixRef<const double> b, double beta,
            MatrixRef<double> c) override {
    multiply(alpha, a, b, beta, c);
  }
  void add_scaled(float by, MatrixRef<const float> x, MatrixRef<float> y) override {
    parallel_ranges(y.rows * y.columns, kNumbers, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) y.data[i] += by * x.data[i];
    });
  }
  double dot(MatrixRef<const float> a, MatrixRef<const float> b) override {
    std::vector<double> sums(static_cast<size_t>(ceil_div(a.rows, kPanelRows)));
    parallel_ranges(a.rows, kPanelRows, [&](int64_t begin, int64_t end) {
      double sum = 0;
      for (int64_t i = begin * a.columns; i < end * a.columns; ++i)
        sum += static_cast<double>(a.data[i]) * static_cast<double>(b.data[i]);
      sums[static_cast<size_t>(begin / kPanelRows)] = sum;
    });
    return std::accumulate(sums.begin(), sums.end(), 0.0);
  }
  void convert(MatrixRef<const float> from, MatrixRef<double> to) override {
    parallel_ranges(to.rows * to.columns, kNumbers, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) to.data[i] = static_cast<double>(from.data[i]);
    });
  }
  void convert(MatrixRef<const double> from, MatrixRef<float> to) override {
    parallel_ranges(to.rows * to.columns, kNumbers, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) to.data[i] = static_cast<float>(from.data[i]);
    });
  }
  void permute_and_damp(MatrixRef<const float> a, std::span<const int64_t> order,
                        std::span<const float> diagonal, double unit, double damping,
                        MatrixRef<double> to) override {
    const auto at = [&](int64_t i) { return order.empty() ? i : order[static_cast<size_t>(i)]; };
    parallel_for(to.rows, [&](int64_t i) {
      const int64_t row = at(i);
      for (int64_t j = 0; j < to.columns; ++j) to(i, j) = static_cast<double>(a(row, at(j))) * unit;
      to(i, i) = static_cast<double>(diagonal[static_cast<size_t>(row)]) + damping;
    });
  }

  void add_to_mean(int64_t before, MatrixRef<const float> y, MatrixRef<const float> x,
                   MatrixRef<float> mean) override {
    const double all = static_cast<double>(before + x.rows);
    gemm_tiles(static_cast<float>(1 / all), y.t(), x,
               static_cast<float>(static_cast<double>(before) / all), mean, x.data == y.data);
  }
  // Columns are shared out; each is summed over its rows in order.
  void add_to_moments(int64_t before, MatrixRef<const float> x, MatrixRef<double> mean_square,
                      MatrixRef<float> absmax) override {
    const auto earlier = static_cast<double>(before), all = static_cast<double>(before + x.rows);
    parallel_ranges(x.columns, 64, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c) {
        double sum = 0;
        float largest = absmax.data[c];
        for (int64_t r = 0; r < x.rows; ++r) {
          const float v = x.data[r * x.ld + c];
          sum += static_cast<double>(v) * static_cast<double>(v);
          largest = std::max(largest, std::fabs(v));
        }
        mean_square.data[c] = mean_square.data[c] * (earlier / all) + sum / all;
        absmax.data[c] = largest;
      }
    });
  }
  int64_t tokens_together() const override { return 1024; }

  bool cholesky(Matrix<double>& a) override { return upper_cholesky(a.rows(), a.data()); }
  void solve_upper(const Matrix<double>& u, bool transposed, MatrixRef<double> b) override {
    pith::solve_upper(u.rows(), u.data(), transposed, b.rows, b.data);
  }
  Matrix<double> qr(Matrix<double>& a) override {
    Matrix<double> r(*this, a.columns(), a.columns());
    pith::qr(a.rows(), a.columns(), a.data(), r.data());
    return r;
  }

  void for_row_panels(int64_t n, int64_t step, uint64_t,
                      FunctionRef<void(int64_t, int64_t)> body) override {
    parallel_ranges(n, ceil_div(kPanelRows, step) * step, body);
  }
};

}  // namespace

Algebra& cpu_algebra() {
  static CpuAlgebra algebra;
  return algebra;
}

}  // namespace pith
