// Perplexity and divergence against float64 over the logits of each window.

#include "runtime/eval/evaluate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/parallel.h"
#include "tests/support/tiny_runtime.h"

namespace pith {
namespace {

constexpr int32_t kVocab = 96;

// Windows of different lengths and beginnings of scoring; some share a pass, one scores nothing.
std::vector<Window> make_windows() {
  std::vector<Window> windows;
  for (const auto& [length, first] : {std::pair<int64_t, int64_t>{20, 0},
                                      {64, 32},
                                      {3, 0},
                                      {2, 0},
                                      {5, 4},
                                      {64, 0},
                                      {9, 3},
                                      {1, 0}}) {
    const auto seed = static_cast<uint64_t>(windows.size());
    windows.push_back({test::random_tokens(length, kVocab, seed), first});
  }
  return windows;
}

// log softmax of each scored position, in float64: [scored][vocab], with the targets.
struct Scored {
  std::vector<std::vector<double>> log_probabilities;
  std::vector<int32_t> targets;
};
Scored score(Executor& executor, const Model& model, const std::vector<Window>& windows) {
  Scored out;
  for (const Window& w : windows) {
    const auto logits = window_logits(executor, model, w);
    for (int64_t i = 0; i < w.scored(); ++i) {
      std::vector<double> row(logits.begin() + i * kVocab, logits.begin() + (i + 1) * kVocab);
      const double top = std::ranges::max(row);
      double total = 0;
      for (const double v : row) total += std::exp(v - top);
      for (double& v : row) v -= top + std::log(total);
      out.log_probabilities.push_back(std::move(row));
      out.targets.push_back(w.tokens[static_cast<size_t>(w.first_scored + i + 1)]);
    }
  }
  return out;
}

double mean(const std::vector<double>& v) {
  double sum = 0;
  for (const double x : v) sum += x;
  return sum / static_cast<double>(v.size());
}
double standard_error(const std::vector<double>& v) {
  double squares = 0;
  for (const double x : v) squares += (x - mean(v)) * (x - mean(v));
  const auto n = static_cast<double>(v.size());
  return std::sqrt(squares / (n - 1) / n);
}

std::vector<double> nll_of(const Scored& s) {
  std::vector<double> out;
  for (size_t i = 0; i < s.targets.size(); ++i)
    out.push_back(-s.log_probabilities[i][static_cast<size_t>(s.targets[i])]);
  return out;
}

class Evaluation : public testing::Test {
 protected:
  void TearDown() override { set_threads(0); }

  const test::TinyRuntime tiny_;
  const Model model_ = tiny_.model();
  const std::unique_ptr<Executor> executor_ = make_cpu_executor();
  const std::vector<Window> windows_ = make_windows();
};

TEST_F(Evaluation, perplexity_is_that_of_float64) {
  const auto nll = nll_of(score(*executor_, model_, windows_));
  const auto r = evaluate_perplexity(*executor_, model_, windows_);
  EXPECT_EQ(r.tokens, 19 + 31 + 2 + 1 + 0 + 63 + 5 + 0);
  EXPECT_EQ(static_cast<size_t>(r.tokens), nll.size());
  EXPECT_NEAR(r.nll, mean(nll), 1e-5);
  EXPECT_NEAR(r.perplexity, std::exp(mean(nll)), 1e-5 * r.perplexity);
  EXPECT_NEAR(r.standard_error, r.perplexity * standard_error(nll), 1e-4 * r.standard_error);
}

TEST_F(Evaluation, divergence_is_that_of_float64) {
  const Model other = load_dense_model(tiny_.source(), DType::kBF16);
  const Scored p = score(*executor_, model_, windows_), q = score(*executor_, other, windows_);
  std::vector<double> kl, change, difference;
  double same = 0;
  for (size_t i = 0; i < p.targets.size(); ++i) {
    const auto &lp = p.log_probabilities[i], &lq = q.log_probabilities[i];
    double sum = 0;
    for (size_t t = 0; t < lp.size(); ++t) sum += std::exp(lp[t]) * (lp[t] - lq[t]);
    kl.push_back(sum);
    const auto target = static_cast<size_t>(p.targets[i]);
    change.push_back(std::pow(std::exp(lq[target]) - std::exp(lp[target]), 2));
    difference.push_back(lp[target] - lq[target]);
    same += std::ranges::max_element(lp) - lp.begin() == std::ranges::max_element(lq) - lq.begin();
  }
  const auto r = evaluate_kl(*executor_, model_, other, windows_);
  const auto n = static_cast<double>(kl.size());
  EXPECT_EQ(r.tokens, static_cast<int64_t>(kl.size()));
  EXPECT_GT(r.kl_mean, 1e-7);
  // Logits are f32: each log probability is off by some 1e-6.
  EXPECT_NEAR(r.kl_mean, mean(kl), 1e-6);
  EXPECT_NEAR(r.kl_standard_error, standard_error(kl), 1e-6);
  std::ranges::sort(kl);
  EXPECT_NEAR(r.kl_median, (kl[60] + kl[60]) / 2, 2e-6);
  EXPECT_NEAR(r.kl_p99, kl[118] * 0.2 + kl[119] * 0.8, 2e-6);
  EXPECT_NEAR(r.kl_max, kl.back(), 2e-6);
  EXPECT_LE(r.kl_p99, r.kl_p999);
  EXPECT_LE(r.kl_p999, r.kl_max);
  EXPECT_NEAR(r.same_top, same / n, 1e-12);
  EXPECT_NEAR(r.rms_probability_change, std::sqrt(mean(change)), 1e-6);
  EXPECT_NEAR(r.base.nll, mean(nll_of(p)), 1e-5);
  EXPECT_NEAR(r.candidate.nll, mean(nll_of(q)), 1e-5);
  EXPECT_NEAR(r.ppl_ratio, std::exp(mean(difference)), 1e-5);
  EXPECT_NEAR(r.ppl_ratio, r.candidate.perplexity / r.base.perplexity, 1e-9);
  EXPECT_NEAR(r.ppl_ratio_error, r.ppl_ratio * standard_error(difference), 1e-5);
}

TEST_F(Evaluation, a_model_does_not_diverge_from_itself) {
  const auto r = evaluate_kl(*executor_, model_, model_, windows_);
  EXPECT_EQ(r.kl_max, 0);
  EXPECT_EQ(r.kl_mean, 0);
  EXPECT_EQ(r.same_top, 1);
  EXPECT_EQ(r.rms_probability_change, 0);
  EXPECT_EQ(r.ppl_ratio, 1);
  EXPECT_EQ(r.ppl_ratio_error, 0);
}

TEST_F(Evaluation, grouping_of_windows_does_not_change_results) {
  double sum = 0;
  int64_t tokens = 0;
  for (const Window& w : windows_) {
    if (w.scored() <= 0) continue;
    const auto one = evaluate_perplexity(*executor_, model_, {w});
    sum += one.nll * static_cast<double>(one.tokens);
    tokens += one.tokens;
  }
  const auto all = evaluate_perplexity(*executor_, model_, windows_);
  EXPECT_EQ(all.tokens, tokens);
  EXPECT_NEAR(all.nll, sum / static_cast<double>(tokens), 1e-6);
  // More than one pass holds, and more rows than the head takes at once.
  std::vector<Window> many;
  for (uint64_t i = 0; i < 40; ++i) many.push_back({test::random_tokens(60, kVocab, 100 + i), 0});
  const auto together = evaluate_perplexity(*executor_, model_, many);
  sum = 0;
  for (const Window& w : many) sum += evaluate_perplexity(*executor_, model_, {w}).nll;
  EXPECT_EQ(together.tokens, 40 * 59);
  EXPECT_NEAR(together.nll, sum / 40, 1e-6);
  std::ranges::reverse(many);
  EXPECT_NEAR(evaluate_perplexity(*executor_, model_, many).nll, together.nll, 1e-9);
}

TEST_F(Evaluation, does_not_depend_on_the_number_of_threads) {
  set_threads(1);
  const auto one = evaluate_perplexity(*executor_, model_, windows_);
  for (const int threads : {2, 3}) {
    set_threads(threads);
    const auto r = evaluate_perplexity(*executor_, model_, windows_);
    EXPECT_EQ(r.nll, one.nll);
    EXPECT_EQ(r.standard_error, one.standard_error);
  }
}

TEST_F(Evaluation, what_cannot_be_scored_is_refused) {
  EXPECT_PITH_ERROR(evaluate_perplexity(*executor_, model_, {}), ErrorKind::kUsage, "no token");
  EXPECT_PITH_ERROR(evaluate_perplexity(*executor_, model_, {{{1}, 0}}), ErrorKind::kUsage,
                    "no token");
  EXPECT_PITH_ERROR(evaluate_perplexity(*executor_, model_, {{{1, kVocab, 2}, 0}}),
                    ErrorKind::kUsage, "wrong tokenizer");
  EXPECT_PITH_ERROR(evaluate_perplexity(*executor_, model_, {{{1, -1}, 0}}), ErrorKind::kUsage,
                    "token -1");
  Model fewer = model_;
  fewer.spec.set_vocab(kVocab - 1);
  EXPECT_PITH_ERROR(evaluate_kl(*executor_, model_, fewer, windows_), ErrorKind::kUsage,
                    "vocabularies of 96 and 95");
}

// One weight of the last norm that is not a number must not end as a perplexity.
TEST_F(Evaluation, a_model_that_is_not_finite_is_an_error) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Model broken = model_;
    broken.final_norm.weight[5] = bad;
    EXPECT_PITH_ERROR(evaluate_perplexity(*executor_, broken, windows_), ErrorKind::kNumeric,
                      "not finite");
    EXPECT_PITH_ERROR(evaluate_kl(*executor_, model_, broken, windows_), ErrorKind::kNumeric,
                      "not finite");
  }
}

}  // namespace
}  // namespace pith
