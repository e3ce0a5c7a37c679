#include "runtime/forward/routing.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/encodings.h"

namespace pith {
namespace {

proto::Moe moe(uint32_t experts, uint32_t chosen, bool normalized) {
  proto::Moe m;
  m.set_experts(experts);
  m.set_chosen(chosen);
  m.set_normalized(normalized);
  return m;
}

struct ExpertTokens {
  std::vector<int64_t> rows;
  std::vector<float> weights;
};

std::vector<ExpertTokens> routed(const proto::Moe& spec, const std::vector<float>& logits,
                                 const std::vector<float>& bias = {}) {
  std::vector<float> weights(logits.size(), 3);
  route(spec, logits, bias, weights);
  std::vector<ExpertTokens> to(spec.experts());
  const auto rows = rows_of_experts(weights, spec.experts());
  for (size_t e = 0; e < to.size(); ++e) {
    to[e].rows = rows[e];
    for (const int64_t r : rows[e])
      to[e].weights.push_back(weights[static_cast<size_t>(r) * to.size() + e]);
  }
  return to;
}

TEST(Routing, weighs_the_likeliest_by_softmax) {
  const std::vector<float> router = {1, 3, 2, 0, /**/ 0, -1, 5, 5};
  const auto all = routed(moe(4, 2, false), router), two = routed(moe(4, 2, true), router);
  EXPECT_EQ(all[1].rows, std::vector<int64_t>{0});
  EXPECT_EQ(all[2].rows, (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(all[3].rows, std::vector<int64_t>{1});
  EXPECT_TRUE(all[0].rows.empty());
  const double e = std::exp(1.0), sum = 1 + 1 / e + 1 / (e * e) + 1 / (e * e * e);
  EXPECT_FLOAT_EQ(all[1].weights[0], static_cast<float>(1 / sum));
  EXPECT_FLOAT_EQ(all[2].weights[0], static_cast<float>(1 / e / sum));
  EXPECT_FLOAT_EQ(two[1].weights[0], static_cast<float>(e / (e + 1)));
  EXPECT_FLOAT_EQ(two[2].weights[0], static_cast<float>(1 / (e + 1)));
  EXPECT_EQ(two[2].weights[1], 0.5f);
  EXPECT_EQ(two[3].weights[0], 0.5f);
}

TEST(Routing, takes_the_first_of_equals_and_any_numbers) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = INFINITY;
  const std::vector<float> router = {2,    2, 2,     2,    kNan,  kNan,  kNan,  kNan,
                                     kNan, 1, -kInf, kInf, -kInf, -kInf, -kInf, 7};
  const auto to = routed(moe(4, 2, true), router);
  EXPECT_EQ(to[0].rows, (std::vector<int64_t>{0, 1, 3}));
  EXPECT_EQ(to[1].rows, (std::vector<int64_t>{0, 1, 2}));
  EXPECT_EQ(to[2].rows, std::vector<int64_t>{});
  EXPECT_EQ(to[3].rows, (std::vector<int64_t>{2, 3}));
  for (const auto& e : to)
    for (const float w : e.weights) EXPECT_TRUE(w > 0 && w <= 1);  // or it would not be chosen
}

// By hand, of DeepSeek-V3: sigmoids, a number for each expert in the choice alone, the best groups
// by their best two.
TEST(Routing, chooses_from_groups_by_sigmoids_and_weighs_without_the_bias) {
  proto::Moe m = moe(6, 2, true);
  m.set_sigmoid(true);
  m.set_choice_bias(true);
  m.set_groups(3);
  m.set_chosen_groups(1);
  m.set_scale(2.5);
  const std::vector<float> router = {2, -3, /**/ 1, 1, /**/ 0, 0};
  const auto s = [](double x) { return 1 / (1 + std::exp(-x)); };
  // Groups: 0.88 + 0.05, 0.73 + 0.73, 0.5 + 0.5.
  const std::vector<float> none(6);
  auto to = routed(m, router, none);
  EXPECT_FLOAT_EQ(to[2].weights.at(0), 1.25f);
  EXPECT_FLOAT_EQ(to[3].weights.at(0), 1.25f);
  const std::vector<float> bias = {0, 0, 0, 0, 1, -0.2f};  // the last group has 1.8
  to = routed(m, router, bias);
  EXPECT_FLOAT_EQ(to[4].weights.at(0), 1.25f);
  EXPECT_FLOAT_EQ(to[5].weights.at(0), 1.25f);
  m.set_chosen_groups(2);
  to = routed(m, router, bias);
  EXPECT_FLOAT_EQ(to[2].weights.at(0), static_cast<float>(2.5 * s(1) / (s(1) + s(0))));
  EXPECT_FLOAT_EQ(to[4].weights.at(0), static_cast<float>(2.5 * s(0) / (s(1) + s(0))));
  m.set_normalized(false);
  to = routed(m, router, bias);
  EXPECT_FLOAT_EQ(to[2].weights.at(0), static_cast<float>(2.5 * s(1)));
}

// DeepSeek-V2: groups by their best, weights over all.
TEST(Routing, chooses_from_groups_by_softmax) {
  proto::Moe m = moe(6, 2, false);
  m.set_groups(3);
  m.set_chosen_groups(1);
  const std::vector<float> router = {2, -3, /**/ 1.9f, 1.9f, /**/ 0, 0};
  double sum = 0;
  for (const float v : router) sum += std::exp(static_cast<double>(v));
  const auto to = routed(m, router);
  EXPECT_FLOAT_EQ(to[0].weights.at(0), static_cast<float>(std::exp(2.0) / sum));
  EXPECT_FLOAT_EQ(to[1].weights.at(0), static_cast<float>(std::exp(-3.0) / sum));
}

}  // namespace
}  // namespace pith
