// Dense matrices on the device against f64, and what is built of them.

#include <gtest/gtest.h>

#include <cmath>

#include "core/linalg.h"
#include "runtime/cuda/gpu_algebra.h"
#include "runtime/cuda_kernels/ops_table.h"
#include "tests/support/encodings.h"

namespace pith {
namespace {

using cuda::Ops;

struct Shape {
  int64_t m, n, k;
};

class GpuAlgebra : public testing::Test {
 protected:
  template <class T>
  std::vector<T> read(const GpuMatrix<T>& m) {
    std::vector<T> to(static_cast<size_t>(m.rows * m.columns));
    device_.download(to.data(), m.data(), m.buffer.bytes());
    return to;
  }
  template <class T>
  GpuMatrix<T> matrix(int64_t rows, int64_t columns, uint64_t seed) {
    const auto values = test::uniform_values(rows * columns, seed);
    const std::vector<T> as(values.begin(), values.end());
    return {device_, rows, columns, as.data()};
  }
  // Positive definite, and as far from the identity as inputs of layers are.
  std::vector<double> gram(int64_t n) {
    const auto x = test::uniform_values(3 * n * n, 5);
    std::vector<double> to(static_cast<size_t>(n * n));
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        double sum = i == j ? 0.1 : 0;
        for (int64_t t = 0; t < 3 * n; ++t)
          sum += static_cast<double>(x[static_cast<size_t>(t * n + i)]) *
                 static_cast<double>(x[static_cast<size_t>(t * n + j)]);
        to[static_cast<size_t>(i * n + j)] = sum;
      }
    }
    return to;
  }

  template <class T>
  void multiplies(cuda::Status (*Ops::*op)(const cuda::Gemm<T>&, cuda::Stream), double unit) {
    // The last has so many tiles that large ones are taken.
    for (const Shape& s : {Shape{1, 1, 1},
                           {70, 65, 0},
                           {33, 130, 37},
                           {64, 64, 64},
                           {200, 131, 9},
                           {1500, 1600, 11}}) {
      for (const bool ta : {false, true}) {
        for (const bool tb : {false, true}) {
          const auto a = ta ? matrix<T>(s.k, s.m, 1) : matrix<T>(s.m, s.k, 1);
          const auto b = tb ? matrix<T>(s.n, s.k, 2) : matrix<T>(s.k, s.n, 2);
          const auto c = matrix<T>(s.m, s.n, 3);
          const auto av = read(a), bv = read(b), before = read(c);
          device_.run(op, {s.m, s.n, s.k, ta ? a.transposed() : a.plain(),
                           tb ? b.transposed() : b.plain(), c.data(), s.n, T(0.5), T(2), false});
          const auto after = read(c);
          for (int64_t i = 0; i<s.m; i += s.m> 1000 ? 13 : 1) {
            for (int64_t j = 0; j < s.n; ++j) {
              double sum = 0;
              for (int64_t p = 0; p < s.k; ++p)
                sum +=
                    static_cast<double>(av[static_cast<size_t>(ta ? p * s.m + i : i * s.k + p)]) *
                    static_cast<double>(bv[static_cast<size_t>(tb ? j * s.k + p : p * s.n + j)]);
              const auto at = static_cast<size_t>(i * s.n + j);
              ASSERT_NEAR(static_cast<double>(after[at]),
                          2 * static_cast<double>(before[at]) + 0.5 * sum,
                          unit * (8 + static_cast<double>(s.k)))
                  << i << " " << j << " of " << s.m << " " << s.n << " " << s.k << ta << tb;
            }
          }
        }
      }
    }
  }

  GpuDevice device_{cuda::ops_table()};
};

TEST_F(GpuAlgebra, multiplies_in_f32) { multiplies(&Ops::gemm_f32, 0x1p-23); }
TEST_F(GpuAlgebra, multiplies_in_f64) { multiplies(&Ops::gemm_f64, 0x1p-52); }

TEST_F(GpuAlgebra, multiplies_with_factors_of_11_bits_by_cublas) {
  if (!device_.ops().has_cublas()) GTEST_SKIP() << "no cuBLAS";
  multiplies(&Ops::gemm_tf32, 0x1p-9);
}

TEST_F(GpuAlgebra, without_beta_what_was_there_does_not_matter) {
  const auto a = matrix<float>(70, 20, 1), b = matrix<float>(20, 30, 2);
  const std::vector<float> nan(70 * 30, NAN);
  const GpuMatrix<float> c(device_, 70, 30, nan.data());
  gpu_multiply(device_, 70, 30, 20, a.plain(), b.plain(), c.data());
  for (const float v : read(c)) ASSERT_TRUE(std::isfinite(v));
}

TEST_F(GpuAlgebra, factors_and_solves_as_the_processor) {
  for (const int64_t n : {1, 5, 64, 65, 150}) {
    const auto a = gram(n);
    auto expected = a;
    ASSERT_TRUE(upper_cholesky(n, expected.data()));
    GpuMatrix<double> on(device_, n, n, a.data());
    ASSERT_TRUE(gpu_upper_cholesky(device_, on));
    const auto u = read(on);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = i; j < n; ++j) {
        const auto at = static_cast<size_t>(i * n + j);
        ASSERT_NEAR(u[at], expected[at], 1e-11 * static_cast<double>(n)) << n << " " << i;
      }
    }
    const int64_t columns = 70;
    const auto right = test::uniform_values(columns * n, 9);
    std::vector<double> b(right.begin(), right.end()), lost = a;
    GpuMatrix<double> again(device_, n, n, a.data()), x(device_, columns, n, b.data());
    ASSERT_TRUE(solve_positive(n, lost.data(), columns, b.data()));
    ASSERT_TRUE(gpu_solve_positive(device_, again, x));
    const auto solved = read(x);
    for (size_t i = 0; i < b.size(); ++i)
      ASSERT_NEAR(solved[i], b[i], 1e-9 * (1 + std::fabs(b[i])));
  }
}

TEST_F(GpuAlgebra, says_when_a_matrix_is_not_positive_definite) {
  for (const int64_t at : {0, 3, 149}) {  // in the last tile, and in others
    auto a = gram(150);
    a[static_cast<size_t>(at * 150 + at)] = -1;
    GpuMatrix<double> on(device_, 150, 150, a.data());
    EXPECT_FALSE(gpu_upper_cholesky(device_, on));
    a[static_cast<size_t>(at * 150 + at)] = NAN;
    GpuMatrix<double> other(device_, 150, 150, a.data());
    EXPECT_FALSE(gpu_upper_cholesky(device_, other));
  }
}

TEST_F(GpuAlgebra, means_of_products_grow_as_tokens_come) {
  const int64_t n = 90, k = 150, m = 40, more = 7;
  const auto x = matrix<float>(m + more, k, 1);
  const auto y = matrix<float>(m + more, n, 2);
  GpuProductMean gram(device_, k, k), cross(device_, n, k);
  gram.add(0, m, x.data(), x.data());
  gram.add(m, more, x.from_row(m).data, x.from_row(m).data);
  cross.add(0, m, y.data(), x.data());
  cross.add(m, more, y.from_row(m).data, x.from_row(m).data);
  Buffer<float> g, c;
  gram.read(&g);
  cross.read(&c);
  const auto xv = read(x), yv = read(y);
  constexpr double kUnit = 0x1p-9;  // of factors of 11 bits, of which both are cut
  const auto mean = [&](const std::vector<float>& a, int64_t width, int64_t i, int64_t j) {
    double sum = 0;
    for (int64_t t = 0; t < m + more; ++t)
      sum += static_cast<double>(a[static_cast<size_t>(t * width + i)]) *
             static_cast<double>(xv[static_cast<size_t>(t * k + j)]);
    return sum / static_cast<double>(m + more);
  };
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t j = 0; j < k; ++j)
      ASSERT_NEAR(static_cast<double>(g[i * k + j]), mean(xv, k, i, j), kUnit) << i << " " << j;
  }
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < k; ++j)
      ASSERT_NEAR(static_cast<double>(c[i * k + j]), mean(yv, n, i, j), kUnit) << i << " " << j;
  }
}

}  // namespace
}  // namespace pith
