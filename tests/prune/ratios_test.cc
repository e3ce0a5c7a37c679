#include "prune/ratios.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/test_data.h"

namespace pith {
namespace {

TEST(PruneRatios, owl_counts_weights_far_above_the_mean) {
  // Products of weight and norm: nine of 1, one of 20; their mean is 2.9, five times that 14.5.
  std::vector<float> w(10, 1.0f);
  w[3] = 10;
  std::vector<double> mean_square(10, 1.0);
  mean_square[3] = 4;
  EXPECT_EQ(outlier_share(w, mean_square), 0.1);
  EXPECT_EQ(outlier_share(w, mean_square, 7), 0.0);
  EXPECT_PITH_ERROR(outlier_share(w, std::vector<double>(3), 5), ErrorKind::kUsage, "10 weights");
}

TEST(PruneRatios, owl_prunes_layers_with_outliers_less_and_keeps_the_mean) {
  const std::vector<double> shares = {0.01, 0.05, 0.02, 0.02};
  const std::vector<uint64_t> weights = {100, 100, 200, 400};
  const auto ratios = owl_ratios(shares, weights, 0.6);
  double mean = 0;
  for (size_t i = 0; i < 4; ++i) {
    mean += ratios[i] * static_cast<double>(weights[i]) / 800;
    EXPECT_LE(ratios[i], 0.6801);
    EXPECT_GE(ratios[i], 0.5199);
  }
  EXPECT_NEAR(mean, 0.6, 1e-12);
  EXPECT_NEAR(ratios[1], 0.52, 1e-12);
  EXPECT_GT(ratios[0], ratios[2]);
  EXPECT_EQ(ratios[2], ratios[3]);
  // Falls linearly with the share.
  EXPECT_NEAR((ratios[0] - ratios[2]) / (ratios[2] - ratios[1]), 1.0 / 3, 1e-9);
  const std::vector<double> same(3, 0.02);
  const std::vector<uint64_t> ones(3, 1);
  EXPECT_EQ(owl_ratios(same, ones, 0.5), std::vector<double>(3, 0.5));
  EXPECT_PITH_ERROR(owl_ratios(shares, weights, 0.95), ErrorKind::kUsage, "0.95");
  EXPECT_PITH_ERROR(owl_ratios(shares, ones, 0.5), ErrorKind::kUsage, "4 shares");
}

TEST(PruneRatios, by_costs_drop_enough_where_it_costs_least) {
  const std::vector<double> ratios = {0, 0.3, 0.5, 0.7};
  const std::vector<RatioCosts> layers = {{1000, ratios, {0, 0.1, 0.4, 2.0}},
                                          {1000, ratios, {0, 0.01, 0.02, 0.05}},
                                          {2000, ratios, {0, 0.1, 0.3, 0.9}}};
  for (const double ratio : {0.1, 0.3, 0.45, 0.6, 0.7}) {
    const auto chosen = ratios_by_costs(layers, ratio);
    double dropped = 0, cost = 0, least = 1e9;
    const auto cost_of = [&](size_t layer, double r) {
      return layers[layer]
          .costs[static_cast<size_t>(std::find(ratios.begin(), ratios.end(), r) - ratios.begin())];
    };
    for (size_t i = 0; i < 3; ++i) {
      dropped += chosen[i] * static_cast<double>(layers[i].weights) / 4000;
      cost += cost_of(i, chosen[i]);
    }
    EXPECT_GE(dropped, ratio - 0.001);
    for (const double a : ratios) {
      for (const double b : ratios) {
        for (const double c : ratios) {
          if ((a + b + 2 * c) / 4 > ratio - 1e-9)
            least = std::min(least, cost_of(0, a) + cost_of(1, b) + cost_of(2, c));
        }
      }
    }
    EXPECT_NEAR(cost, least, 1e-12) << ratio;
  }
  EXPECT_PITH_ERROR(ratios_by_costs(layers, 0.8), ErrorKind::kUsage, "less than 0.8");
}

}  // namespace
}  // namespace pith
