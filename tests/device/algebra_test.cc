// Linear algebra on the device, as tests/runtime/algebra_test.cc has it for the processor.

#include <gtest/gtest.h>

#include "runtime/cuda/gpu_algebra.h"
#include "runtime/cuda_kernels/ops_table.h"
#include "tests/support/algebra_checks.h"

namespace pith {
namespace {

class GpuAlgebraTest : public testing::Test {
 protected:
  GpuDevice device_{cuda::ops_table()};
  GpuAlgebra algebra_{device_, "test"};
};

TEST_F(GpuAlgebraTest, multiplies_and_adds) { test::check_products(algebra_, 0x1p-23); }
TEST_F(GpuAlgebraTest, keeps_means_over_tokens) {
  test::check_means(algebra_, 0x1p-9);  // of factors of 11 bits, of which both are cut
}
TEST_F(GpuAlgebraTest, factors_and_solves) { test::check_systems(algebra_); }
TEST_F(GpuAlgebraTest, decomposes) { test::check_decompositions(algebra_); }
TEST_F(GpuAlgebraTest, borrows_and_gives_back) { test::check_memory(algebra_); }

// So many tiles that large ones are taken; and cuBLAS.
TEST_F(GpuAlgebraTest, large_products_are_those_of_the_small_ones) {
  const int64_t m = 1500, n = 1600, k = 11;
  std::vector<float> a(static_cast<size_t>(m * k)), b(static_cast<size_t>(k * n));
  for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i % 17) - 8;
  for (size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(i % 13) - 6;
  const Matrix<float> x(algebra_, m, k, a.data()), y(algebra_, k, n, b.data());
  Matrix<float> all(algebra_, m, n), mean(algebra_, m, n);
  algebra_.gemm(1, x, y, 0, all);
  const Matrix<float> tokens(algebra_, k, n, b.data());
  std::vector<float> turned(a.size());
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t p = 0; p < k; ++p)
      turned[static_cast<size_t>(p * m + i)] = a[static_cast<size_t>(i * k + p)];
  }
  algebra_.add_to_mean(0, Matrix<float>(algebra_, k, m, turned.data()), tokens, mean);
  std::vector<float> product(static_cast<size_t>(m * n)), scaled(product.size());
  algebra_.download(all.ref(), product.data());
  algebra_.download(mean.ref(), scaled.data());
  for (int64_t i = 0; i < m; i += 13) {
    for (int64_t j = 0; j < n; ++j) {
      float sum = 0;  // of small integers: exact
      for (int64_t p = 0; p < k; ++p)
        sum += a[static_cast<size_t>(i * k + p)] * b[static_cast<size_t>(p * n + j)];
      ASSERT_EQ(product[static_cast<size_t>(i * n + j)], sum) << i << " " << j;
      ASSERT_NEAR(scaled[static_cast<size_t>(i * n + j)], sum / static_cast<float>(k), 1e-4f);
    }
  }
}

}  // namespace
}  // namespace pith
