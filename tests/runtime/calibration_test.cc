#include "runtime/compress/calibration.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/parallel.h"
#include "runtime/forward.h"
#include "tests/support/encodings.h"
#include "tests/support/tiny_runtime.h"

namespace pith {
namespace {

Linear make_linear(const std::string& name, int64_t n, int64_t k) {
  const auto w = test::uniform_values(n * k, 1);
  Linear linear{.name = name, .n = n, .k = k, .terms = {}, .bias = {}};
  linear.terms.push_back({encode(Encoding::dense(DType::kF32), n, k, w.data()), {}});
  return linear;
}

class Calibration : public testing::Test {
 protected:
  void TearDown() override { set_threads(0); }

  // Runs x [m, k] through a linear; returns y.
  std::vector<float> run(Executor& executor, const Linear& linear, const std::vector<float>& x) {
    const auto m = static_cast<int64_t>(x.size()) / linear.k;
    const Activation in = executor.buffer(Slot::kNormed, m, linear.k),
                     out = executor.buffer(Slot::kQuery, m, linear.n);
    executor.write(x, in);
    executor.linear(linear, in, out, false);
    std::vector<float> y(static_cast<size_t>(m * linear.n));
    executor.read(out, y);
    return y;
  }

  const std::unique_ptr<Executor> cpu_ = make_cpu_executor();
};

TEST_F(Calibration, mean_squares_are_those_of_float64_over_all_tokens) {
  const int64_t k = 200;
  const Linear a = make_linear("a", 8, k), b = make_linear("b", 3, k);
  CalibratingExecutor executor(*cpu_, {.input_squares = true});
  std::vector<double> sums(static_cast<size_t>(k));
  int64_t tokens = 0;
  for (const int64_t m : {1, 7, 64, 13}) {
    auto x = test::uniform_values(m * k, static_cast<uint64_t>(m), 2);
    for (int64_t t = 0; t < m; ++t) x[static_cast<size_t>(t * k + 5)] *= 1e4f;
    for (size_t i = 0; i < x.size(); ++i)
      sums[i % static_cast<size_t>(k)] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    tokens += m;
    EXPECT_EQ(run(executor, a, x), run(*cpu_, a, x)) << "observing changes the result";
  }
  run(executor, b, std::vector<float>(static_cast<size_t>(k), 0.5f));
  const auto statistics = executor.take();
  ASSERT_EQ(statistics.size(), 2u);
  EXPECT_EQ(statistics.at("a").tokens, tokens);
  for (size_t c = 0; c < sums.size(); ++c) {
    const double expected = sums[c] / static_cast<double>(tokens);
    EXPECT_NEAR(statistics.at("a").mean_square[c], expected, 1e-12 * expected) << c;
    EXPECT_EQ(statistics.at("b").mean_square[c], 0.25);
  }
  EXPECT_TRUE(executor.take().empty()) << "taken twice";
}

TEST_F(Calibration, nothing_is_kept_where_nothing_is_needed) {
  CalibratingExecutor executor(*cpu_, {});
  run(executor, make_linear("a", 8, 16), test::uniform_values(32, 1));
  EXPECT_TRUE(executor.take().empty());
}

TEST_F(Calibration, inputs_that_are_not_finite_are_named) {
  const Linear linear = make_linear("layers.3.mlp.down", 8, 200);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        -std::numeric_limits<float>::infinity()}) {
    CalibratingExecutor executor(*cpu_, {.input_squares = true});
    auto x = test::uniform_values(10 * 200, 2);
    x[4 * 200 + 137] = bad;
    x[9 * 200 + 138] = bad;
    EXPECT_PITH_ERROR(run(executor, linear, x), ErrorKind::kNumeric,
                      "layers.3.mlp.down: its input 137 is not finite");
  }
  // The largest number is one.
  CalibratingExecutor executor(*cpu_, {.input_squares = true});
  run(executor, linear, std::vector<float>(200, std::numeric_limits<float>::max()));
  EXPECT_TRUE(std::isfinite(executor.take().at("layers.3.mlp.down").mean_square[0]));
}

// All inputs of all linears of a model, block by block as the driver runs them.
BlockStatistics observe(Executor& cpu, const Model& model,
                        const std::vector<std::vector<int32_t>>& windows) {
  CalibratingExecutor executor(cpu, {.input_squares = true});
  CalibrationStates states(executor, model.spec, model.embedding, windows);
  EXPECT_GT(states.bytes(), 0u);
  for (const Block& block : model.blocks) states.run(executor, model.spec, block, true);
  return executor.take();
}

TEST_F(Calibration, blocks_see_the_inputs_that_the_whole_model_gives_them) {
  const test::TinyRuntime tiny;
  const Model model = tiny.model();
  const std::vector<std::vector<int32_t>> windows = {test::random_tokens(20, 96, 1),
                                                     test::random_tokens(64, 96, 2),
                                                     test::random_tokens(1, 96, 3)};
  const auto by_block = observe(*cpu_, model, windows);
  CalibratingExecutor executor(*cpu_, {.input_squares = true});
  const auto cache = executor.make_cache(model.spec, 1, 64, KvType::kF32);
  for (const auto& w : windows) {
    const Segment segment{0, 0, static_cast<int64_t>(w.size())};
    forward_hidden(executor, model, {w, std::span(&segment, 1)}, *cache);
  }
  const auto whole = executor.take();
  EXPECT_EQ(whole.size(), 3u * 7);
  ASSERT_EQ(by_block.size(), whole.size());
  for (const auto& [name, s] : whole) {
    EXPECT_EQ(s.tokens, 85) << name;
    EXPECT_EQ(by_block.at(name).tokens, 85);
    EXPECT_EQ(by_block.at(name).mean_square, s.mean_square) << name;
  }
  EXPECT_TRUE(whole.contains("layers.2.mlp.down"));
}

TEST_F(Calibration, statistics_do_not_depend_on_the_number_of_threads) {
  const test::TinyRuntime tiny;
  const Model model = tiny.model();
  const std::vector<std::vector<int32_t>> windows = {test::random_tokens(50, 96, 1),
                                                     test::random_tokens(33, 96, 2)};
  set_threads(1);
  const auto one = observe(*cpu_, model, windows);
  for (const int threads : {2, 3, 7}) {
    set_threads(threads);
    const auto many = observe(*cpu_, model, windows);
    for (const auto& [name, s] : one) EXPECT_EQ(many.at(name).mean_square, s.mean_square) << name;
  }
}

TEST_F(Calibration, states_stay_where_a_run_is_only_watched) {
  const test::TinyRuntime tiny;
  const Model model = tiny.model();
  CalibratingExecutor executor(*cpu_, {.input_squares = true});
  CalibrationStates states(executor, model.spec, model.embedding, {test::random_tokens(9, 96, 4)});
  EXPECT_EQ(states.bytes(), 9u * 64 * 4);
  states.run(executor, model.spec, model.blocks[0], false);
  const auto first = executor.take();
  states.run(executor, model.spec, model.blocks[0], true);
  const auto again = executor.take();
  states.run(executor, model.spec, model.blocks[0], true);
  const auto moved = executor.take();
  const std::string q = "layers.0.attention.q";
  EXPECT_EQ(first.at(q).mean_square, again.at(q).mean_square);
  EXPECT_NE(first.at(q).mean_square, moved.at(q).mean_square);
}

}  // namespace
}  // namespace pith
