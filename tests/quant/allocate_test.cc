#include "quant/allocate.h"
#include "runtime/cpu/cpu_executor.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/encodings.h"
#include "tests/support/tiny_runtime.h"

namespace pith {
namespace {

AllocationGroup group(std::vector<std::pair<uint64_t, double>> choices) {
  AllocationGroup g;
  for (const auto& [bytes, kl] : choices)
    g.choices.push_back({.encoding = Encoding::integer(4, 64), .bytes = bytes, .kl = kl});
  return g;
}

// The least KL of all choices that fit.
double best_of_all(const std::vector<AllocationGroup>& groups, uint64_t budget, size_t at = 0) {
  if (at == groups.size()) return 0;
  double best = 1e9;
  for (const auto& c : groups[at].choices) {
    if (c.bytes <= budget)
      best = std::min(best, c.kl + best_of_all(groups, budget - c.bytes, at + 1));
  }
  return best;
}

TEST(Allocate, stays_within_the_bytes_and_comes_near_the_best_of_all_choices) {
  Rng rng(1);
  for (int i = 0; i < 50; ++i) {
    std::vector<AllocationGroup> groups;
    for (int g = 0; g < 6; ++g) {
      const double size = 50 + 100 * rng.uniform(), cost = rng.uniform();
      std::vector<std::pair<uint64_t, double>> choices;
      for (int bits = 2; bits <= 6; ++bits) {
        choices.emplace_back(static_cast<uint64_t>(size * bits),
                             cost * std::pow(4.0, -bits) * (0.7 + 0.6 * rng.uniform()));
      }
      groups.push_back(group(choices));
    }
    uint64_t least = 0, most = 0;
    for (const auto& g : groups) {
      least += g.choices.front().bytes;
      most += g.choices.back().bytes;
    }
    const uint64_t budget = (least + most) / 2;
    ASSERT_TRUE(choose_for_bytes(groups, budget));
    EXPECT_LE(chosen_bytes(groups), budget);
    EXPECT_LE(chosen_kl(groups), 1.0001 * best_of_all(groups, budget));
    EXPECT_FALSE(choose_for_bytes(groups, least - 1));
    EXPECT_EQ(chosen_bytes(groups), least);
    ASSERT_TRUE(choose_for_bytes(groups, most));
  }
}

TEST(Allocate, skips_choices_that_cost_more_bytes_and_more_divergence) {
  std::vector<AllocationGroup> groups = {group({{100, 1.0}, {150, 1.2}, {200, 0.5}, {300, 0.6}})};
  ASSERT_TRUE(choose_for_bytes(groups, 160));
  EXPECT_EQ(chosen_bytes(groups), 100u);
  ASSERT_TRUE(choose_for_bytes(groups, 1000));
  EXPECT_EQ(chosen_bytes(groups), 200u);
}

TEST(Allocate, takes_the_fewest_bytes_for_a_divergence_or_says_that_it_cannot) {
  std::vector<AllocationGroup> groups = {group({{100, 1.0}, {200, 0.1}}),
                                         group({{100, 0.5}, {200, 0.4}})};
  EXPECT_TRUE(choose_for_kl(groups, 2));
  EXPECT_EQ(chosen_bytes(groups), 200u);
  EXPECT_TRUE(choose_for_kl(groups, 0.7));
  EXPECT_EQ(chosen_bytes(groups), 300u);
  EXPECT_EQ(groups[0].chosen, 1u);
  EXPECT_FALSE(choose_for_kl(groups, 0.3));
}

TEST(Allocate, measures_less_divergence_for_more_bits_and_leaves_out_what_is_left_out) {
  const test::TinyRuntime tiny;
  QuantizeSettings settings{.method = parse_method("gptq"), .ignore = {"o"}};
  settings.overrides.emplace_back("embedding", Encoding::integer(8, 64));
  std::vector<std::vector<int32_t>> windows;
  for (uint64_t i = 0; i < 6; ++i) windows.push_back(test::random_tokens(40, 96, i));
  for (const char* method : {"rtn", "gptq"}) {
    settings.method = parse_method(method);
    const auto executor = make_cpu_executor();
    const auto groups =
        measure_choices({tiny.source(),
                         settings,
                         {Encoding::integer(2, 32, false), Encoding::integer(4, 32, false),
                          Encoding::nf4(16), Encoding::integer(8, 32)},
                         {test::random_tokens(40, 96, 9), test::random_tokens(33, 96, 8)},
                         windows},
                        *executor);
    const bool own_head = !tiny.source().spec().tied_head();
    EXPECT_EQ(groups.size(), 3u * 3 + own_head);
    for (const auto& g : groups) {
      ASSERT_EQ(g.choices.size(), 4u);
      EXPECT_NE(g.linears.front().role, LinearRole::kOutput);
      EXPECT_LT(g.choices[0].bytes, g.choices[1].bytes);
      EXPECT_GT(g.choices[0].kl, 2 * g.choices[1].kl) << g.linears.front().name;
      EXPECT_GT(g.choices[1].kl, 2 * g.choices[3].kl) << g.linears.front().name;
      EXPECT_GT(g.choices[2].kl, 2 * g.choices[3].kl) << "GPTQ knows no error of nf4";
    }
  }
}

}  // namespace
}  // namespace pith
