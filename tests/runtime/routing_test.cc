#include "runtime/routing.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/encodings.h"

namespace pith {
namespace {

proto::Mixture mixture(uint32_t experts, uint32_t chosen, bool normalized) {
  proto::Mixture m;
  m.set_experts(experts);
  m.set_chosen(chosen);
  m.set_normalized(normalized);
  return m;
}

TEST(Routing, weighs_the_likeliest_by_softmax) {
  const std::vector<float> router = {1, 3, 2, 0, /**/ 0, -1, 5, 5};
  const auto all = route(mixture(4, 2, false), router), two = route(mixture(4, 2, true), router);
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
  const auto to = route(mixture(4, 2, true), router);
  EXPECT_EQ(to[0].rows, (std::vector<int64_t>{0, 1, 3}));
  EXPECT_EQ(to[1].rows, (std::vector<int64_t>{0, 1, 2}));
  EXPECT_EQ(to[2].rows, std::vector<int64_t>{});
  EXPECT_EQ(to[3].rows, (std::vector<int64_t>{2, 3}));
  for (const auto& e : to)
    for (const float w : e.weights) EXPECT_TRUE(w >= 0 && w <= 1);
}

}  // namespace
}  // namespace pith
