// Perplexity and divergence against float64 over the logits of each window.

#include "runtime/eval/evaluate.h"
#include "runtime/cpu/cpu_executor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/parallel.h"
#include "runtime/eval/quantile.h"
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
  EXPECT_NEAR(r.kl_p99_error, quantile_error(kl, 0.99), 2e-6);
  EXPECT_NEAR(r.kl_p999_error, quantile_error(kl, 0.999), 2e-6);
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

// Interrupted anywhere, an evaluation goes on to the same bits.
TEST_F(Evaluation, goes_on_from_a_file_to_the_same_bits) {
  const Model other = load_dense_model(tiny_.source(), DType::kBF16);
  const KlCandidate candidates[] = {{.model = other}};
  std::vector<Window> windows;
  for (uint64_t i = 0; i < 80; ++i) windows.push_back({test::random_tokens(60, kVocab, i), 3});
  const auto whole = evaluate_kl(*executor_, model_, candidates, windows).front();
  const test::TemporaryFolder folder;
  const std::string file = folder.file("state");
  const Json settings = {{"windows", 80}, {"cache", "f32"}};
  // Stops after the first pass.
  class Stop final : public Progress {
   public:
    void begin(const std::string&, int64_t, int64_t) override {}
    void advance(int64_t, const std::string& text) override {
      detail = text;
      throw Error(ErrorKind::kCancelled, "interrupted");
    }
    void end() override {}
    void note(const std::string&) override {}
    std::string detail;
  } stop;
  size_t before = 0;
  for (;;) {
    Measurements table(kl_columns(1), file, settings);
    EXPECT_GE(table.restored(), before);
    before = table.restored();
    if (before == 0 || before < 80 * 56) {
      EXPECT_PITH_ERROR(evaluate_kl(*executor_, model_, candidates, windows, stop, {&table}),
                        ErrorKind::kCancelled, "interrupted");
      EXPECT_EQ(stop.detail.rfind("KL ", 0), 0u) << stop.detail;
      ASSERT_GT(table.rows(), before);
      continue;
    }
    const auto r =
        evaluate_kl(*executor_, model_, candidates, windows, no_progress(), {&table}).front();
    EXPECT_EQ(r.kl_mean, whole.kl_mean);
    EXPECT_EQ(r.kl_standard_error, whole.kl_standard_error);
    EXPECT_EQ(r.kl_p99, whole.kl_p99);
    EXPECT_EQ(r.same_top, whole.same_top);
    EXPECT_EQ(r.rms_probability_change, whole.rms_probability_change);
    EXPECT_EQ(r.base.nll, whole.base.nll);
    EXPECT_EQ(r.ppl_ratio_error, whole.ppl_ratio_error);
    break;
  }
  EXPECT_PITH_ERROR(Measurements(kl_columns(1), file, Json({{"windows", 80}, {"cache", "f16"}})),
                    ErrorKind::kUsage, "\"cache\" was \"\\\"f32\\\"\" and is \"\\\"f16\\\"\"");
  auto bytes = read_text_file(file, 1 << 20);
  bytes[bytes.size() / 2] ^= 1;
  write_file(file, std::as_bytes(std::span(bytes)));
  EXPECT_PITH_ERROR(Measurements(kl_columns(1), file, settings), ErrorKind::kCorrupt, "checksum");
}

TEST_F(Evaluation, stored_logits_give_the_divergence_of_the_model) {
  const Model other = load_dense_model(tiny_.source(), DType::kBF16);
  const KlCandidate candidates[] = {{.model = other}, {.model = model_}};
  const test::TemporaryFolder folder;
  const std::string file = folder.file("logits");
  const LogitsHeader header{.vocab = kVocab,
                            .tokens = 121,
                            .windows = windows_.size(),
                            .model_hash = 1,
                            .text_hash = 2,
                            .windows_hash = hash_of(windows_),
                            .protocol = "text-64"};
  LogitsWriter writer(file, header);
  const auto direct =
      evaluate_kl(*executor_, model_, candidates, windows_, no_progress(), {nullptr, &writer});
  writer.finish();
  const LogitsReader reader(file);
  EXPECT_EQ(reader.header().protocol, "text-64");
  const auto stored = evaluate_kl(*executor_, reader, candidates, windows_);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_NEAR(stored[i].kl_mean, direct[i].kl_mean, 1e-6);
    EXPECT_NEAR(stored[i].kl_max, direct[i].kl_max, 1e-5);
    EXPECT_EQ(stored[i].same_top, direct[i].same_top);
    EXPECT_EQ(stored[i].base.nll, direct[i].base.nll);
    EXPECT_EQ(stored[i].ppl_ratio, direct[i].ppl_ratio);
    EXPECT_EQ(stored[i].rms_probability_change, direct[i].rms_probability_change);
  }
  // As the only model that runs.
  LogitsWriter again(folder.file("again"), header);
  evaluate_perplexity(*executor_, model_, windows_, no_progress(), NumberFormat::kF32,
                      {nullptr, &again});
  again.finish();
  EXPECT_EQ(read_text_file(file, 1 << 24), read_text_file(folder.file("again"), 1 << 24));

  auto others = windows_;
  others[0].tokens[3] ^= 1;
  EXPECT_PITH_ERROR(evaluate_kl(*executor_, reader, candidates, others), ErrorKind::kUsage,
                    "other windows");
  Model fewer = model_;
  fewer.spec.set_vocab(kVocab - 1);
  const KlCandidate wrong[] = {{.model = fewer}};
  EXPECT_PITH_ERROR(evaluate_kl(*executor_, reader, wrong, windows_), ErrorKind::kUsage,
                    "vocabularies of 96 and 95");
  const auto good = read_text_file(file, 1 << 24);
  const auto broken = [&](size_t at, size_t size) {
    std::string bytes = good.substr(0, size);
    if (at < bytes.size()) bytes[at] ^= 16;
    const std::string path = folder.file("broken");
    write_file(path, std::as_bytes(std::span(bytes)));
    evaluate_kl(*executor_, LogitsReader(path), candidates, windows_);
  };
  EXPECT_PITH_ERROR(broken(0, good.size()), ErrorKind::kCorrupt, "no stored logits");
  EXPECT_PITH_ERROR(broken(20, good.size()), ErrorKind::kCorrupt, "checksum of the header");
  EXPECT_PITH_ERROR(broken(good.size() / 2, good.size()), ErrorKind::kCorrupt, "record");
  EXPECT_PITH_ERROR(broken(good.size(), good.size() - 1), ErrorKind::kCorrupt, "copied whole");
  EXPECT_PITH_ERROR(broken(good.size(), 30), ErrorKind::kCorrupt, "");
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
    broken.final_norm.weight.edit()[5] = bad;
    EXPECT_PITH_ERROR(evaluate_perplexity(*executor_, broken, windows_), ErrorKind::kNumeric,
                      "not finite");
    EXPECT_PITH_ERROR(evaluate_kl(*executor_, model_, broken, windows_), ErrorKind::kNumeric,
                      "not finite");
  }
}

}  // namespace
}  // namespace pith
