#include "lowrank/ranks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/rng.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

TEST(Ranks, a_share_of_the_parameters_is_not_exceeded) {
  const std::pair<int64_t, int64_t> shapes[] = {{576, 576}, {1536, 576}, {192, 576}};
  for (const auto& [n, k] : shapes) {
    for (const double share : {0.2, 0.5, 0.8, 0.95}) {
      const int64_t rank = rank_for_share(n, k, share);
      EXPECT_LE(static_cast<double>(rank * (n + k)), share * static_cast<double>(n * k));
      EXPECT_GT(static_cast<double>((rank + kRankStep) * (n + k)),
                share * static_cast<double>(n * k));
      EXPECT_EQ(rank % kRankStep, 0);
    }
  }
  EXPECT_EQ(rank_for_share(8, 8, 0.5), 2);
  EXPECT_EQ(rank_for_share(2, 2, 0.1), 1);
}

RankCurve curve(const std::string& name, int64_t n, int64_t k, double decay, double size) {
  RankCurve c{.name = name, .n = n, .k = k};
  for (int64_t i = 0; i < std::min(n, k); ++i)
    c.squares.push_back(size * std::pow(static_cast<double>(i + 1), -decay));
  for (const double s : c.squares) c.norm += s;
  return c;
}

// The least sum of relative losses within the budget, by trying everything.
double best_of_all(const std::vector<RankCurve>& curves, int64_t budget, int64_t step,
                   size_t from = 0) {
  if (from == curves.size()) return 0;
  const RankCurve& c = curves[from];
  double best = std::numeric_limits<double>::infinity(), left = c.norm;
  const auto take = [&](int64_t parameters, double loss) {
    if (parameters <= budget) {
      best = std::min(best, c.weight * loss / c.norm +
                                best_of_all(curves, budget - parameters, step, from + 1));
    }
  };
  take(c.n * c.k, 0);
  for (int64_t rank = 1; rank <= std::ssize(c.squares); ++rank) {
    left -= c.squares[static_cast<size_t>(rank - 1)];
    if (rank % step == 0) take(rank * (c.n + c.k), left);
  }
  return best;
}

TEST(Ranks, a_budget_is_kept_and_no_choice_within_it_loses_less) {
  Rng rng(1);
  for (int i = 0; i < 30; ++i) {
    std::vector<RankCurve> curves;
    int64_t all = 0;
    for (int l = 0; l < 4; ++l) {
      const auto n = static_cast<int64_t>(16 + rng.next() % 48),
                 k = static_cast<int64_t>(16 + rng.next() % 48);
      curves.push_back(curve("l" + std::to_string(l), n, k, 0.2 + 2 * rng.uniform(),
                             std::exp(6 * rng.uniform())));
      curves.back().weight = 0.5 + rng.uniform();
      all += n * k;
    }
    for (const double share : {0.5, 0.7, 0.9}) {
      const auto budget = static_cast<int64_t>(share * static_cast<double>(all));
      const RankChoice choice = choose_ranks(curves, budget, 4);
      EXPECT_LE(choice.parameters, budget);
      EXPECT_NEAR(choice.loss, best_of_all(curves, budget, 4), 1e-9);
      double sum = 0;
      int64_t parameters = 0;
      ASSERT_EQ(choice.ranks.size(), curves.size());
      for (size_t l = 0; l < curves.size(); ++l) {
        const auto& [name, rank] = choice.ranks[l];
        const RankCurve& c = curves[l];
        EXPECT_EQ(name, c.name);
        EXPECT_EQ(rank % 4, 0);
        if (rank == 0) {
          parameters += c.n * c.k;
          continue;
        }
        EXPECT_TRUE(saves_parameters(c.n, c.k, rank));
        parameters += rank * (c.n + c.k);
        double left = c.norm;
        for (int64_t j = 0; j < rank; ++j) left -= c.squares[static_cast<size_t>(j)];
        sum += c.weight * left / c.norm;
      }
      EXPECT_EQ(parameters, choice.parameters);
      EXPECT_NEAR(sum, choice.loss, 1e-9);
    }
  }
}

TEST(Ranks, a_layer_whose_values_fall_fast_gets_fewer_columns_and_one_that_is_flat_stays_dense) {
  const std::vector<RankCurve> curves = {curve("fast", 64, 64, 3, 1), curve("flat", 64, 64, 0, 1)};
  const RankChoice choice = choose_ranks(curves, 64 * 64 + 16 * 128);
  EXPECT_GT(choice.ranks[0].second, 0);
  EXPECT_EQ(choice.ranks[1].second, 0);
  EXPECT_LT(choice.loss, 0.01);
  EXPECT_EQ(choose_ranks(curves, 2 * 64 * 64).loss, 0);
}

TEST(Ranks, a_budget_that_is_too_small_says_what_is_needed) {
  const std::vector<RankCurve> curves = {curve("a", 64, 64, 1, 1)};
  EXPECT_PITH_ERROR(choose_ranks(curves, 100), ErrorKind::kUsage, "at least 1024");
  EXPECT_EQ(choose_ranks(curves, 1024).ranks[0].second, 8);
}

TEST(Ranks, the_last_pattern_that_matches_counts) {
  const LinearInfo q{.name = "layers.3.attention.q",
                     .role = LinearRole::kQuery,
                     .layer = 3,
                     .sublayer = 0,
                     .n = 64,
                     .k = 64,
                     .bias = false};
  const auto by = [&](const RankOverrides& overrides, const std::vector<std::string>& ignore = {}) {
    return rank_by(q, ignore, overrides, [] { return 7; });
  };
  EXPECT_EQ(by({}), 7);
  EXPECT_EQ(by({{"q", 16}, {"layers.3.*", 24}}), 24);
  EXPECT_EQ(by({{"q", 16}, {"k", 24}}), 16);
  EXPECT_EQ(by({{"q", 0}}), std::nullopt);
  EXPECT_EQ(by({{"q", 16}}, {"layers.3.*"}), std::nullopt);
  EXPECT_PITH_ERROR(check_ranks({{"q", -1}}), ErrorKind::kUsage, "\"q\": rank -1");
}

}  // namespace
}  // namespace pith
