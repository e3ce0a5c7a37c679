#include "runtime/eval/quantile.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace pith {
namespace {

TEST(Quantile, is_linear_between_values) {
  const std::vector<double> v = {1, 2, 4, 8};
  EXPECT_EQ(quantile(v, 0), 1);
  EXPECT_EQ(quantile(v, 0.5), 3);
  EXPECT_DOUBLE_EQ(quantile(v, 0.9), 4 * 0.3 + 8 * 0.7);
  EXPECT_EQ(quantile(v, 1), 8);
  EXPECT_EQ(quantile(std::vector<double>{5}, 0.999), 5);
}

TEST(Quantile, its_error_ends_at_the_values) {
  EXPECT_EQ(quantile_error(std::vector<double>{5}, 0.999), 0);
  const std::vector<double> v = {1, 2, 4, 8};
  EXPECT_EQ(quantile_error(v, 1), 0);
  // s = 0.25
  EXPECT_DOUBLE_EQ(quantile_error(v, 0.5), (quantile(v, 0.75) - quantile(v, 0.25)) / 2);
  // q + s = 1.03
  EXPECT_DOUBLE_EQ(quantile_error(v, 0.9), (8 - quantile(v, 0.9 - std::sqrt(0.9 * 0.1 / 4))) / 2);
}

// Quantiles of samples of 4,000 scatter as the errors say. The tails of KL divergences are longer
// than the exponential one; a log-normal of sigma 1.5 is like them.
TEST(Quantile, its_error_is_the_scatter_of_samples) {
  std::mt19937_64 generator(1);
  std::normal_distribution<double> normal;
  for (const double q : {0.5, 0.99, 0.999}) {
    const int samples = 300;
    double sum = 0, squares = 0, said = 0;
    for (int s = 0; s < samples; ++s) {
      std::vector<double> v(4000);
      for (double& x : v) x = std::exp(1.5 * normal(generator));
      std::ranges::sort(v);
      const double x = quantile(v, q);
      sum += x;
      squares += x * x;
      said += quantile_error(v, q);
    }
    const double mean = sum / samples;
    const double scatter = std::sqrt(squares / samples - mean * mean);
    EXPECT_NEAR(said / samples / scatter, 1, q < 0.999 ? 0.15 : 0.3) << q;
  }
}

}  // namespace
}  // namespace pith
