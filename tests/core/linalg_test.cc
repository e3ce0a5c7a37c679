#include "core/linalg.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "core/parallel.h"
#include "core/rng.h"

namespace pith {
namespace {

// x^T x + damping
std::vector<double> positive_matrix(int64_t n, double damping, uint64_t seed) {
  const Rng rng(seed);
  const int64_t m = n + 3;
  std::vector<double> x(static_cast<size_t>(m * n)), a(static_cast<size_t>(n * n));
  for (size_t i = 0; i < x.size(); ++i) x[i] = rng.uniform_at(i) * 2 - 1;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = i == j ? damping : 0;
      for (int64_t t = 0; t < m; ++t)
        sum += x[static_cast<size_t>(t * n + i)] * x[static_cast<size_t>(t * n + j)];
      a[static_cast<size_t>(i * n + j)] = sum;
    }
  }
  return a;
}

TEST(Linalg, upper_factor_times_its_transpose_is_the_matrix) {
  for (const int64_t n : {1, 2, 17, 255, 256, 257, 600}) {
    const auto a = positive_matrix(n, 0.1, static_cast<uint64_t>(n));
    auto u = a;
    for (int64_t i = 0; i < n; ++i) {  // the lower triangle is not read
      for (int64_t j = 0; j < i; ++j) u[static_cast<size_t>(i * n + j)] = std::nan("");
    }
    ASSERT_TRUE(upper_cholesky(n, u.data())) << n;
    double worst = 0;
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = i; j < n; ++j) {
        double sum = 0;
        for (int64_t p = j; p < n; ++p)
          sum += u[static_cast<size_t>(i * n + p)] * u[static_cast<size_t>(j * n + p)];
        worst = std::max(worst, std::fabs(sum - a[static_cast<size_t>(i * n + j)]));
      }
    }
    EXPECT_LT(worst, 1e-11 * static_cast<double>(n)) << n;
  }
}

TEST(Linalg, factor_does_not_depend_on_the_number_of_threads) {
  const int64_t n = 700;
  const auto a = positive_matrix(n, 0.1, 5);
  set_threads(1);
  auto one = a;
  ASSERT_TRUE(upper_cholesky(n, one.data()));
  for (const int threads : {2, 3, 7}) {
    set_threads(threads);
    auto many = a;
    ASSERT_TRUE(upper_cholesky(n, many.data()));
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = i; j < n; ++j)
        ASSERT_EQ(one[static_cast<size_t>(i * n + j)], many[static_cast<size_t>(i * n + j)]);
    }
  }
  set_threads(0);
}

TEST(Linalg, matrices_that_are_not_positive_definite_are_refused) {
  std::vector<double> equal_columns = {1, 1, 1, 1};
  EXPECT_FALSE(upper_cholesky(2, equal_columns.data()));
  std::vector<double> negative = {1, 0, 0, -1};
  EXPECT_FALSE(upper_cholesky(2, negative.data()));
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    auto a = positive_matrix(300, 0.1, 2);
    a[7 * 300 + 7] = bad;
    EXPECT_FALSE(upper_cholesky(300, a.data())) << bad;
  }
}

TEST(Linalg, positive_systems_are_solved_for_every_right_side) {
  const int64_t n = 40;
  const auto a = positive_matrix(n, 0.1, 9);
  std::vector<double> x(2 * static_cast<size_t>(n)), b(x.size());
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<double>(i % 7) - 3;
  for (int64_t c = 0; c < 2; ++c) {
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j)
        b[static_cast<size_t>(c * n + i)] +=
            a[static_cast<size_t>(i * n + j)] * x[static_cast<size_t>(c * n + j)];
    }
  }
  auto copy = a;
  ASSERT_TRUE(upper_cholesky(n, copy.data()));
  solve_upper(n, copy.data(), true, 2, b.data());
  solve_upper(n, copy.data(), false, 2, b.data());
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(b[i], x[i], 1e-9);
}

}  // namespace
}  // namespace pith
