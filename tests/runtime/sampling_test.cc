#include "runtime/forward/sampling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <vector>

#include "tests/support/encodings.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr int kDraws = 20000;

int32_t sample(Sampler& s, std::vector<float> logits, const std::vector<int32_t>& history = {}) {
  return s.sample(logits, history);
}

std::vector<int> frequencies(const SamplingOptions& o, const std::vector<float>& logits) {
  Sampler s(o);
  std::vector<int> counts(logits.size());
  for (int i = 0; i < kDraws; ++i) counts[static_cast<size_t>(sample(s, logits))]++;
  return counts;
}

// What softmax at this temperature gives to the tokens that are kept.
std::vector<double> probabilities(const std::vector<float>& logits, double temperature,
                                  const std::set<size_t>& kept) {
  std::vector<double> p(logits.size());
  double total = 0;
  for (const size_t i : kept)
    total += p[i] = std::exp(static_cast<double>(logits[i]) / temperature);
  for (double& v : p) v /= total;
  return p;
}

// Chi-square of the counts; tokens with no probability must not appear at all.
void expect_frequencies(const std::vector<int>& counts, const std::vector<double>& p) {
  double chi = 0;
  int freedom = -1;
  for (size_t i = 0; i < p.size(); ++i) {
    if (p[i] == 0) {
      EXPECT_EQ(counts[i], 0) << "token " << i << " was excluded";
      continue;
    }
    const double expected = p[i] * kDraws;
    ASSERT_GT(expected, 5) << "too rare for the test: token " << i;
    chi += (counts[i] - expected) * (counts[i] - expected) / expected;
    ++freedom;
  }
  // Beyond it once in a million: seeds are fixed, so that a pass stays a pass.
  EXPECT_LT(chi, freedom + 5 * std::sqrt(2.0 * std::max(1, freedom)) + 12);
}

const std::vector<float> kLogits = {1.0f, 3.0f, -0.5f, 2.5f, 0.0f, 2.4f, -2.0f, 1.5f};
const std::set<size_t> kAll = {0, 1, 2, 3, 4, 5, 6, 7};

TEST(Sampling, greedy_takes_the_largest_and_the_first_of_equals) {
  Sampler s({});
  EXPECT_EQ(sample(s, kLogits), 1);
  EXPECT_EQ(sample(s, {1, 5, 5, 2}), 1);
  EXPECT_EQ(sample(s, {-kInf, -3e38f, -kInf}), 1);
  EXPECT_EQ(sample(s, {-7}), 0);
  Sampler one({.temperature = 1.5, .top_k = 1});
  for (int i = 0; i < 100; ++i) EXPECT_EQ(sample(one, {1, 5, 5, 2}), 1);
}

TEST(Sampling, frequencies_are_those_of_softmax) {
  for (const double temperature : {0.8, 1.0, 2.0}) {
    for (const uint64_t seed : {0, 1, 2}) {
      expect_frequencies(frequencies({.temperature = temperature, .seed = seed}, kLogits),
                         probabilities(kLogits, temperature, kAll));
    }
  }
}

TEST(Sampling, top_k_keeps_the_likeliest) {
  expect_frequencies(frequencies({.temperature = 1, .top_k = 3}, kLogits),
                     probabilities(kLogits, 1, {1, 3, 5}));
  expect_frequencies(frequencies({.temperature = 2, .top_k = 100}, kLogits),
                     probabilities(kLogits, 2, kAll));
  // Among equals at the edge, the first is kept.
  expect_frequencies(frequencies({.temperature = 1, .top_k = 2}, {1, 2, 1, 1}),
                     probabilities({1, 2, 1, 1}, 1, {0, 1}));
}

TEST(Sampling, top_p_keeps_the_likeliest_that_reach_the_mass) {
  // Probabilities 0.5, 0.25, 0.125, 0.125.
  const std::vector<float> logits = {std::log(0.25f), std::log(0.5f), std::log(0.125f),
                                     std::log(0.125f)};
  const auto expect = [&](double p, const std::set<size_t>& kept) {
    SCOPED_TRACE(p);
    expect_frequencies(frequencies({.temperature = 1, .top_p = p}, logits),
                       probabilities(logits, 1, kept));
  };
  expect(0.01, {1});
  expect(0.49, {1});
  expect(0.51, {0, 1});
  expect(0.74, {0, 1});
  expect(0.76, {0, 1, 2});
  expect(0.88, {0, 1, 2, 3});
  expect(1, {0, 1, 2, 3});
}

TEST(Sampling, min_p_keeps_a_share_of_the_likeliest) {
  const std::vector<float> logits = {std::log(0.25f), std::log(0.5f), std::log(0.15f),
                                     std::log(0.1f)};
  const auto expect = [&](double p, const std::set<size_t>& kept) {
    SCOPED_TRACE(p);
    expect_frequencies(frequencies({.temperature = 1, .min_p = p}, logits),
                       probabilities(logits, 1, kept));
  };
  expect(0, {0, 1, 2, 3});
  expect(0.19, {0, 1, 2, 3});
  expect(0.21, {0, 1, 2});
  expect(0.31, {0, 1});
  expect(0.49, {0, 1});
  expect(0.51, {1});
  expect(1, {1});
}

// Temperature before the masses, top-k before top-p: the mass is that of what top-k kept.
TEST(Sampling, filters_follow_each_other_in_the_order_of_the_chain) {
  const std::vector<float> logits = {std::log(0.4f), std::log(0.3f), std::log(0.2f),
                                     std::log(0.1f)};
  // The first of 0.4 and 0.3 has 0.571 of the mass.
  expect_frequencies(frequencies({.temperature = 1, .top_k = 2, .top_p = 0.57}, logits),
                     probabilities(logits, 1, {0}));
  expect_frequencies(frequencies({.temperature = 1, .top_k = 2, .top_p = 0.58}, logits),
                     probabilities(logits, 1, {0, 1}));
  // At temperature 2 the shares of the largest are square roots: 0.866, 0.707, 0.5.
  expect_frequencies(frequencies({.temperature = 2, .min_p = 0.72}, logits),
                     probabilities(logits, 2, {0, 1}));
}

TEST(Sampling, penalties_divide_positive_and_multiply_negative_logits_of_seen_tokens) {
  const std::vector<int32_t> history = {0, 0, 2, 99, -1};  // ids that do not exist are ignored
  const std::vector<float> logits = {4, 3, -1, -2};
  const auto after = [&](const SamplingOptions& o) {
    Sampler s(o);
    std::vector<Candidate> all(4);
    likeliest(logits, all);
    EXPECT_EQ(s.choose(all, history), all[0].id);
    std::vector<std::pair<int32_t, float>> to;
    for (const auto& c : all) to.emplace_back(c.id, c.logit);
    return to;
  };
  using Changed = std::vector<std::pair<int32_t, float>>;
  EXPECT_EQ(after({.repetition_penalty = 2}), (Changed{{1, 3}, {0, 2}, {2, -2}, {3, -2}}));
  EXPECT_EQ(after({.repetition_penalty = 2, .repetition_window = 3}),
            (Changed{{0, 4}, {1, 3}, {2, -2}, {3, -2}}));
  for (const int64_t window : {0, -5}) {
    EXPECT_EQ(after({.repetition_penalty = 2, .repetition_window = window}),
              (Changed{{0, 4}, {1, 3}, {2, -1}, {3, -2}}));
  }
}

TEST(Sampling, the_likeliest_are_enough_to_choose_from) {
  std::vector<int32_t> history;
  const int64_t vocab = 300;
  for (const SamplingOptions& o :
       {SamplingOptions{}, SamplingOptions{.repetition_penalty = 1.7},
        SamplingOptions{.temperature = 2, .top_k = 7, .top_p = 0.8, .seed = 3},
        SamplingOptions{.temperature = 2, .top_k = 5, .repetition_penalty = 3, .seed = 4},
        SamplingOptions{.temperature = 1, .top_k = 500, .min_p = 0.01},
        SamplingOptions{.temperature = 2, .top_k = 5, .repetition_penalty = 0.5}}) {
    Sampler some(o), all(o);
    history.clear();
    for (uint64_t turn = 0; turn < 40; ++turn) {
      auto logits = test::uniform_values(vocab, turn, 4);
      for (int i = 0; i < 50; ++i) logits[static_cast<size_t>(i) * 3] = logits[3];  // ties
      std::vector<Candidate> few(some.candidates(history, logits.size())), every(logits.size());
      likeliest(logits, few);
      likeliest(logits, every);
      const int32_t id = all.choose(every, history);
      ASSERT_EQ(some.choose(few, history), id) << turn;
      history.push_back(id);
    }
  }
  EXPECT_EQ(Sampler({}).candidates(history, 300), 1U);
  EXPECT_EQ(Sampler({.temperature = 1, .top_k = 40}).candidates(history, 300), 40U);
  EXPECT_EQ(Sampler({.temperature = 1}).candidates(history, 300), 300U);
}

TEST(Sampling, a_few_of_the_likeliest_give_what_all_of_them_in_order_do) {
  std::vector<Candidate> all(6000);
  std::vector<int32_t> history = {5, 17, 40};
  for (const SamplingOptions& o :
       {SamplingOptions{.temperature = 1}, SamplingOptions{.temperature = 1, .top_p = 0.9},
        SamplingOptions{.temperature = 1, .min_p = 0.02},
        SamplingOptions{.temperature = 0.3, .top_p = 0.999, .min_p = 0.001, .seed = 4},
        SamplingOptions{.temperature = 3, .repetition_penalty = 0.4, .seed = 5},
        SamplingOptions{.temperature = 1, .top_k = 7000, .top_p = 0.5}}) {
    Sampler few(o), every(o);
    std::set<int32_t> drawn;
    for (uint64_t turn = 0; turn < 60; ++turn) {
      const auto logits = test::uniform_values(6000, turn, 3);  // thousands are about as likely
      likeliest(logits, all);
      const int32_t id = every.choose(all, history);
      ASSERT_EQ(few.sample(logits, history), id) << turn;
      drawn.insert(id);
    }
    EXPECT_GT(drawn.size(), 50U);
  }
}

TEST(Sampling, the_seed_decides_and_nothing_else) {
  const auto logits = test::uniform_values(500, 1, 3);
  const auto draw = [&](uint64_t seed) {
    Sampler s({.temperature = 1, .top_p = 0.9, .seed = seed});
    std::vector<int32_t> out;
    for (int i = 0; i < 50; ++i) out.push_back(sample(s, logits));
    return out;
  };
  EXPECT_EQ(draw(5), draw(5));
  EXPECT_NE(draw(5), draw(6));
}

TEST(Sampling, equal_logits_are_equally_likely) {
  const std::vector<float> logits(8, 0.25f);
  expect_frequencies(frequencies({.temperature = 1}, logits), probabilities(logits, 1, kAll));
}

TEST(Sampling, extreme_options_and_logits_still_give_a_token) {
  for (const SamplingOptions& o :
       {SamplingOptions{.temperature = 1e-300}, SamplingOptions{.temperature = 100},
        SamplingOptions{.temperature = 1, .top_p = 1e-300},
        SamplingOptions{.temperature = 1, .min_p = 1}}) {
    Sampler s(o);
    for (const auto& logits : {std::vector<float>{-3e38f, 3e38f}, {-kInf, 0}, {0, 1e-45f}, {2}}) {
      const int32_t id = sample(s, logits);
      EXPECT_TRUE(id >= 0 && static_cast<size_t>(id) < logits.size());
      if (logits[0] == -kInf) {
        EXPECT_EQ(id, 1);
      }
    }
  }
}

TEST(Sampling, logits_without_an_order_are_errors) {
  for (const double temperature : {0.0, 1.0}) {
    Sampler s({.temperature = temperature});
    EXPECT_PITH_ERROR(sample(s, {1, kNan, 2}), ErrorKind::kNumeric, "not a number");
    EXPECT_PITH_ERROR(sample(s, {1, kInf}), ErrorKind::kNumeric, "largest");
    EXPECT_PITH_ERROR(sample(s, {-kInf, -kInf}), ErrorKind::kNumeric, "largest");
    EXPECT_PITH_ERROR(sample(s, {}), ErrorKind::kNumeric, "no logits");
  }
}

TEST(Sampling, options_that_make_no_sense_are_refused) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  constexpr double kEndless = std::numeric_limits<double>::infinity();
  for (const double t : {-0.1, 101.0, kNone, kEndless})
    EXPECT_PITH_ERROR(Sampler({.temperature = t}), ErrorKind::kUsage, "temperature");
  EXPECT_PITH_ERROR(Sampler({.top_k = -1}), ErrorKind::kUsage, "top-k -1");
  for (const double p : {0.0, -0.5, 1.01, kNone})
    EXPECT_PITH_ERROR(Sampler({.top_p = p}), ErrorKind::kUsage, "top-p");
  for (const double p : {-0.5, 1.01, kNone})
    EXPECT_PITH_ERROR(Sampler({.min_p = p}), ErrorKind::kUsage, "min-p");
  // Beyond what f32 logits can be divided by and multiplied with.
  for (const double p : {0.0, -1.0, 1e-300, 1e300, kNone, kEndless})
    EXPECT_PITH_ERROR(Sampler({.repetition_penalty = p}), ErrorKind::kUsage, "repetition penalty");
}

}  // namespace
}  // namespace pith
