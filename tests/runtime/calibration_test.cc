#include "runtime/compress/calibration.h"
#include "runtime/cpu/cpu_executor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "core/parallel.h"
#include "runtime/compress/plan.h"
#include "runtime/forward/forward.h"
#include "tests/support/encodings.h"
#include "tests/support/statistics.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_runtime.h"

namespace pith {
namespace {

constexpr StatisticsNeeds kAll = {.mean_square = true, .gram = true};

class CalibrationTest : public testing::Test {
 protected:
  void TearDown() override { set_threads(0); }

  const std::unique_ptr<Executor> cpu_ = make_cpu_executor();
  const test::TinyRuntime tiny_;
  const Model model_ = tiny_.model();
};

// x [m, k], with one channel that stands out.
std::vector<float> inputs(int64_t m, int64_t k, uint64_t seed) {
  auto x = test::uniform_values(m * k, seed, 2);
  for (int64_t t = 0; t < m; ++t) x[static_cast<size_t>(t * k + 5)] *= 1e3f;
  return x;
}

TEST_F(CalibrationTest, statistics_are_those_of_float64_over_all_tokens) {
  for (const int64_t k : {17, 200, 400}) {
    StatisticsBuilder builder(cpu_algebra(), "x",
                              {.mean_square = true, .gram = true, .cross_gram = true}, k);
    const auto n = static_cast<size_t>(k);
    std::vector<double> gram(n * n), cross(n * n);
    std::vector<float> absmax(n);
    int64_t tokens = 0;
    for (const int64_t m : {1, 7, 64, 13}) {
      const auto x = inputs(m, k, static_cast<uint64_t>(m));
      const auto change = inputs(m, k, static_cast<uint64_t>(m) + 100);
      for (int64_t t = 0; t < m; ++t) {
        for (size_t i = 0; i < n; ++i) {
          const double a = static_cast<double>(x[static_cast<size_t>(t) * n + i]),
                       o = static_cast<double>(change[static_cast<size_t>(t) * n + i]);
          absmax[i] = std::max(absmax[i], static_cast<float>(std::fabs(a)));
          for (size_t j = 0; j < n; ++j) {
            gram[i * n + j] += a * static_cast<double>(x[static_cast<size_t>(t) * n + j]);
            cross[i * n + j] += o * static_cast<double>(x[static_cast<size_t>(t) * n + j]);
          }
        }
      }
      builder.add({x.data(), m, k}, {change.data(), m, k});
      tokens += m;
    }
    const InputStatistics s = builder.finish();
    EXPECT_EQ(s.tokens, tokens);
    EXPECT_EQ(s.absmax, absmax);
    for (size_t i = 0; i < n; ++i) {
      const double mean = gram[i * n + i] / static_cast<double>(tokens);
      EXPECT_NEAR(s.mean_square[i], mean, 1e-12 * mean);
      for (size_t j = 0; j < n; ++j) {
        const double scale =
            1e-6 * std::sqrt(gram[i * n + i] * gram[j * n + j]) / static_cast<double>(tokens);
        const auto at = static_cast<int64_t>(i * n + j);
        EXPECT_NEAR(s.gram[at], gram[i * n + j] / static_cast<double>(tokens), 2 * scale);
        EXPECT_EQ(s.gram[at], s.gram[static_cast<int64_t>(j * n + i)]) << "not symmetric";
        EXPECT_NEAR(s.cross_gram[at], cross[i * n + j] / static_cast<double>(tokens),
                    1e-5 * (std::fabs(cross[i * n + j]) / static_cast<double>(tokens) + 1e3));
      }
    }
  }
}

TEST_F(CalibrationTest, many_tokens_of_large_inputs_do_not_overflow_a_mean) {
  StatisticsBuilder builder(cpu_algebra(), "x", kAll, 32);
  const std::vector<float> x(64 * 32, 1e18f);
  for (int i = 0; i < 50; ++i) builder.add({x.data(), 64, 32});
  EXPECT_NEAR(builder.finish().gram[3], 1e36f, 1e31f);
}

TEST_F(CalibrationTest, inputs_that_are_not_finite_are_named) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        -std::numeric_limits<float>::infinity()}) {
    StatisticsBuilder builder(cpu_algebra(), "layers.3.mlp.down", {.mean_square = true}, 200);
    auto x = test::uniform_values(10 * 200, 2);
    x[4 * 200 + 137] = bad;
    x[9 * 200 + 138] = bad;
    builder.add({x.data(), 10, 200});
    EXPECT_PITH_ERROR(builder.finish(), ErrorKind::kNumeric,
                      "layers.3.mlp.down: its input 137 is not finite");
  }
  // The largest number is one.
  const std::vector<float> x(200, std::numeric_limits<float>::max());
  const InputStatistics s = test::statistics_of({.mean_square = true}, 1, 200, x.data());
  EXPECT_TRUE(std::isfinite(s.mean_square[0]));
}

TEST_F(CalibrationTest, statistics_do_not_depend_on_the_number_of_threads) {
  const auto x = inputs(300, 450, 3);
  set_threads(1);
  const InputStatistics one = test::statistics_of(kAll, 300, 450, x.data());
  for (const int threads : {2, 3, 7}) {
    set_threads(threads);
    const InputStatistics many = test::statistics_of(kAll, 300, 450, x.data());
    EXPECT_EQ(many.mean_square, one.mean_square);
    for (int64_t i = 0; i < one.gram.size(); ++i) ASSERT_EQ(many.gram[i], one.gram[i]);
  }
}

TEST_F(CalibrationTest, stages_are_the_linears_with_one_input) {
  const auto stages = stages_of(model_.spec, 1);
  ASSERT_EQ(stages.size(), 4u);
  const std::vector<std::vector<LinearRole>> roles = {
      {LinearRole::kQuery, LinearRole::kKey, LinearRole::kValue},
      {LinearRole::kOutput},
      {LinearRole::kGate, LinearRole::kUp},
      {LinearRole::kDown}};
  for (size_t i = 0; i < stages.size(); ++i) {
    EXPECT_EQ(stages[i].sublayer, i < 2 ? 0 : 1);
    std::vector<LinearRole> found;
    for (const auto& l : stages[i].linears) found.push_back(l.role);
    EXPECT_EQ(std::multiset<LinearRole>(found.begin(), found.end()),
              std::multiset<LinearRole>(roles[i].begin(), roles[i].end()));
  }
}

// Sublayer by sublayer gives the hidden states of the whole model, in memory and in a file.
TEST_F(CalibrationTest, states_after_all_sublayers_are_those_of_the_whole_model) {
  const std::vector<std::vector<int32_t>> windows = {test::random_tokens(20, 96, 1),
                                                     test::random_tokens(64, 96, 2),
                                                     test::random_tokens(1, 96, 3)};
  for (const char* family : {"llama", "gemma2"}) {
    const Model model = test::TinyRuntime(family).model();
    const test::TemporaryFolder folder;
    CalibrationStates memory(*cpu_, model.spec, model.embedding, windows);
    CalibrationStates file(*cpu_, model.spec, model.embedding, windows, 1000, folder.path());
    EXPECT_FALSE(memory.in_file());
    EXPECT_TRUE(file.in_file());
    EXPECT_EQ(memory.bytes(), 85u * 64 * 4);
    const auto cache = cpu_->make_cache(model.spec, {1, 64, NumberFormat::kF32});
    for (size_t w = 0; w < windows.size(); ++w) {
      for (auto* states : {&memory, &file}) {
        for (const auto& block : model.blocks) {
          for (int s = 0; s < 2; ++s) {
            states->run(*cpu_, block, s, w, false);  // only watched: the state stays
            states->run(*cpu_, block, s, w, true);
          }
        }
      }
      const Segment segment{0, 0, static_cast<int64_t>(windows[w].size())};
      const Tensor x = forward_hidden(*cpu_, model, {windows[w], std::span(&segment, 1)}, *cache);
      std::vector<float> whole(static_cast<size_t>(x.m * x.n)), state;
      cpu_->read(x, whole);
      memory.load(w, &state);
      EXPECT_EQ(state, whole);
      file.load(w, &state);
      EXPECT_EQ(state, whole);
    }
  }
}

TEST_F(CalibrationTest, later_stages_see_what_the_compressed_ones_make) {
  const std::vector<std::vector<int32_t>> windows = {test::random_tokens(40, 96, 1)};
  CalibrationStates states(*cpu_, model_.spec, model_.embedding, windows);
  const Block& original = model_.blocks[0];
  Block changed = original;
  auto& q = changed.sublayers[0].attention->v;
  std::vector<float> half(static_cast<size_t>(q.n * q.k));
  reference_decode(q, 0, q.n, half.data());
  for (auto& v : half) v *= 0.5f;
  q.terms[0].w = encode(Encoding::dense(DType::kF32), q.n, q.k, half.data());
  const auto stages = stages_of(model_.spec, 0);
  const auto o_input = [&](bool sequential) {
    Calibration calibration(*cpu_, states, nullptr, {.sequential = sequential});
    calibration.begin(changed, original);
    return calibration.inputs(stages[1], {.mean_square = true}).mean_square;
  };
  const auto now = o_input(true), before = o_input(false);
  for (size_t i = 0; i < now.size(); ++i) EXPECT_NEAR(now[i], before[i] / 4, 1e-6 * before[i]);
}

TEST_F(CalibrationTest, held_out_windows_are_seen_apart) {
  std::vector<std::vector<int32_t>> windows;
  for (uint64_t i = 0; i < 8; ++i) windows.push_back(test::random_tokens(10, 96, i));
  CalibrationStates states(*cpu_, model_.spec, model_.embedding, windows);
  Calibration calibration(*cpu_, states, nullptr, {.held_out = {0, 0, 0, 1, 0, 0, 0, 1}});
  calibration.begin(model_.blocks[0], model_.blocks[0]);
  const auto stages = stages_of(model_.spec, 0);
  EXPECT_EQ(calibration.inputs(stages[0], {.mean_square = true}).tokens, 60);
  EXPECT_EQ(calibration.inputs(stages[0], {.mean_square = true}, true).tokens, 20);
}

TEST(HeldOutWindows, are_an_eighth_of_each_domain) {
  CompressOptions o;
  o.calibration.resize(32);
  for (int i = 0; i < 32; ++i) o.domain.push_back(i % 2);
  const auto held_out = held_out_windows(o);
  std::map<int, int> by_domain;
  for (size_t i = 0; i < held_out.size(); ++i) by_domain[o.domain[i]] += held_out[i];
  EXPECT_EQ(by_domain, (std::map<int, int>{{0, 2}, {1, 2}}));
  o.domain = {};
  EXPECT_TRUE(held_out_windows(o)[7]);
}

TEST_F(CalibrationTest, inputs_are_rounded_as_the_stage_will_round_them) {
  CalibrationStates states(*cpu_, model_.spec, model_.embedding, {test::random_tokens(20, 96, 1)});
  Calibration calibration(*cpu_, states, nullptr, {});
  calibration.begin(model_.blocks[0], model_.blocks[0]);
  const Stage stage = stages_of(model_.spec, 0)[0];
  const auto plain = calibration.inputs(stage, kAll);
  const InputEncoding coarse{.dtype = DType::kI8, .scale = InputScale::kTensor, .value = 0.25f};
  const auto rounded = calibration.inputs(stage, kAll, false, coarse);
  int moved = 0;
  for (size_t i = 0; i < plain.absmax.size(); ++i) {
    EXPECT_EQ(rounded.absmax[i], 0.25f * std::nearbyint(plain.absmax[i] / 0.25f)) << i;
    moved += rounded.absmax[i] != plain.absmax[i];
  }
  EXPECT_GT(moved, 0);
}

TEST_F(CalibrationTest, output_error_is_zero_for_the_original_and_one_for_nothing) {
  CalibrationStates states(*cpu_, model_.spec, model_.embedding, {test::random_tokens(30, 96, 1)});
  Calibration calibration(*cpu_, states, nullptr, {});
  const Block& original = model_.blocks[0];
  calibration.begin(original, original);
  EXPECT_EQ(calibration.output_error(original, 1, 100), 0);
  Block nothing = original;
  auto& down = nothing.sublayers[1].mlp->down;
  const std::vector<float> zeros(static_cast<size_t>(down.n * down.k));
  down.terms[0].w = encode(Encoding::dense(DType::kF32), down.n, down.k, zeros.data());
  EXPECT_NEAR(calibration.output_error(nothing, 1, 100), 1, 1e-6);
}

}  // namespace
}  // namespace pith
