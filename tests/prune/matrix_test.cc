// Masks and weights of a matrix against the papers' formulas in plain loops of double (tests/support/naive_pruning.h).

#include "prune/matrix.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/parallel.h"
#include "runtime/cpu/cpu_algebra.h"
#include "tests/support/encodings.h"
#include "tests/support/naive_pruning.h"
#include "tests/support/statistics.h"

namespace pith {
namespace {

constexpr Damping kDamping{.damping = 0.05, .shrink = 0.1};

// A matrix [n, k] and statistics of inputs that are correlated and of unequal size.
struct Layer {
  int64_t n, k;
  std::vector<float> w;
  InputStatistics statistics;
  std::vector<float> gram;
  std::vector<char> dead;

  Layer(int64_t rows, int64_t columns, int64_t tokens = 400, bool some_dead = false)
      : n(rows), k(columns), w(test::uniform_values(rows * columns, 3)) {
    auto x = test::uniform_values(tokens * k, 4);
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t c = 0; c < k; ++c) {
        float& v = x[static_cast<size_t>(t * k + c)];
        if (c > 0) v += 0.7f * x[static_cast<size_t>(t * k + c - 1)];
      }
      for (int64_t c = 0; c < k; ++c) {
        float& v = x[static_cast<size_t>(t * k + c)];
        v *= c % 7 == 3 ? 4.0f : 1.0f;
        if (some_dead && c % 11 == 5) v = 0;
      }
    }
    statistics = test::statistics_of({.mean_square = true, .gram = true}, tokens, k, x.data());
    gram.assign(statistics.gram.begin(), statistics.gram.end());
    for (int64_t c = 0; c < k; ++c) dead.push_back(some_dead && c % 11 == 5);
  }

  PruneInputs inputs(bool factored = true) const {
    return PruneInputs::from(cpu_algebra(), statistics, k, {.mean_square = true, .gram = true},
                             factored, kDamping);
  }
  test::Matrix64 damped() const { return test::naive_damped(gram, k, kDamping); }

  struct Result {
    Mask mask;
    std::vector<float> w;
    PruneLoss loss;
  };
  Result prune(const MatrixPruning& how, const PruneInputs& inputs) const {
    Result out{Mask(n, k), std::vector<float>(w.size()), {}};
    out.loss = prune_matrix(
        how, inputs, n,
        [&](int64_t begin, int64_t rows, float* to) {
          std::copy_n(w.data() + begin * k, rows * k, to);
        },
        [&](int64_t begin, int64_t rows, const float* from) {
          std::copy_n(from, rows * k, out.w.data() + begin * k);
        },
        &out.mask);
    return out;
  }
  void expect_equal(const Result& result, const test::NaivePruned& expected,
                    double tolerance) const {
    int64_t kept = 0;
    for (int64_t i = 0; i < n * k; ++i) {
      const auto j = static_cast<size_t>(i);
      ASSERT_EQ(result.mask.keeps(i / k, i % k), expected.kept[j] != 0) << i / k << ", " << i % k;
      ASSERT_NEAR(static_cast<double>(result.w[j]), expected.w[j], tolerance);
      kept += expected.kept[j];
    }
    EXPECT_GT(kept, 0);
    EXPECT_LT(kept, n * k);
  }
};

const PruneMethod& method(const char* name) { return parse_prune_method(name); }

// Columns that are no multiple of a group, of a block of 128 or of a word of the mask.
const Sparsity kSparsities[] = {Sparsity::bitmap(75),     Sparsity::bitmap(1),
                                Sparsity::bitmap(149),    Sparsity::n_of_m(2, 4),
                                Sparsity::n_of_m(4, 8),   Sparsity::n_of_m(1, 3),
                                Sparsity::n_of_m(5, 140), Sparsity::n_of_m(3, 32)};

TEST(PruneMatrix, magnitude_and_wanda_drop_what_their_papers_say) {
  const Layer layer(50, 150);
  const test::Matrix64 ones(150, 1.0);
  for (const Sparsity& s : kSparsities) {
    SCOPED_TRACE(to_string(s));
    layer.expect_equal(layer.prune({method("magnitude"), s}, {.k = layer.k}),
                       test::naive_by_saliency(layer.w, layer.n, layer.k, ones, s), 0);
    const PruneInputs in{.k = layer.k, .mean_square = layer.statistics.mean_square};
    layer.expect_equal(
        layer.prune({method("wanda"), s}, in),
        test::naive_by_saliency(layer.w, layer.n, layer.k, layer.statistics.mean_square, s), 0);
  }
}

TEST(PruneMatrix, sparsegpt_is_the_elimination_of_an_explicit_inverse) {
  for (const bool some_dead : {false, true}) {
    const Layer layer(50, 150, 400, some_dead);
    for (const Sparsity& s : kSparsities) {
      SCOPED_TRACE(to_string(s));
      const auto result = layer.prune({method("sparsegpt"), s}, layer.inputs());
      layer.expect_equal(
          result, test::naive_sparsegpt(layer.w, layer.n, layer.k, layer.damped(), layer.dead, s),
          1e-6);
      double error = 0;
      for (int64_t r = 0; r < layer.n; ++r) {
        const std::vector<double> q(result.w.begin() + r * layer.k,
                                    result.w.begin() + (r + 1) * layer.k);
        error += test::naive_loss(layer.w.data() + r * layer.k, q.data(), layer.k, layer.damped());
      }
      EXPECT_NEAR(result.loss.error, error, 1e-5 * error);
    }
  }
}

TEST(PruneMatrix, columns_that_were_never_active_are_dropped_first) {
  const Layer layer(50, 150, 400, true);
  for (const char* name : {"wanda", "sparsegpt"}) {
    const auto result = layer.prune({method(name), Sparsity::bitmap(120)}, layer.inputs());
    for (int64_t c = 0; c < layer.k; ++c) {
      if (!layer.dead[static_cast<size_t>(c)]) continue;
      EXPECT_FALSE(result.mask.keeps(7, c)) << name << " " << c;
    }
  }
}

TEST(PruneMatrix, refinement_finds_the_kept_weights_that_lose_least) {
  const Layer layer(50, 150);
  for (const char* name : {"magnitude", "wanda", "sparsegpt"}) {
    for (const Sparsity& s : {Sparsity::bitmap(75), Sparsity::n_of_m(2, 4)}) {
      SCOPED_TRACE(name);
      const auto plain = layer.prune({method(name), s}, layer.inputs());
      const auto result = layer.prune({method(name), s, false, 300}, layer.inputs());
      std::vector<char> kept;
      for (int64_t i = 0; i < layer.n * layer.k; ++i)
        kept.push_back(plain.mask.keeps(i / layer.k, i % layer.k));
      // H is in f32 there, and weights are up to 1.4.
      test::Matrix64 h;
      for (const double v : layer.damped()) h.push_back(static_cast<double>(static_cast<float>(v)));
      layer.expect_equal(result, {kept, test::naive_refined(layer.w, layer.n, layer.k, h, kept)},
                         2e-6);
      EXPECT_LT(result.loss.error, 0.95 * plain.loss.error);
      EXPECT_EQ(result.loss.norm, plain.loss.norm);
    }
  }
}

TEST(PruneMatrix, no_round_of_refinement_makes_a_row_worse) {
  const Layer layer(20, 150, 60);  // fewer tokens than columns
  const auto h = layer.damped();
  std::vector<double> before(20, 1e30);
  for (const int rounds : {0, 1, 2, 4, 16, 64, 500}) {
    const auto result =
        layer.prune({method("sparsegpt"), Sparsity::bitmap(60), false, rounds}, layer.inputs());
    for (int64_t r = 0; r < layer.n; ++r) {
      const std::vector<double> q(result.w.begin() + r * layer.k,
                                  result.w.begin() + (r + 1) * layer.k);
      const double loss = test::naive_loss(layer.w.data() + r * layer.k, q.data(), layer.k, h);
      double& least = before[static_cast<size_t>(r)];
      EXPECT_LE(loss, least * (1 + 1e-6)) << rounds;
      least = loss;
    }
  }
}

TEST(PruneMatrix, weights_are_compared_in_the_whole_matrix_where_that_is_asked_for) {
  const Layer layer(50, 150);
  const Sparsity s = Sparsity::bitmap(75);
  // One row of all weights.
  const test::Matrix64 ones(layer.w.size(), 1.0);
  const auto expected =
      test::naive_by_saliency(layer.w, 1, layer.n * layer.k, ones, Sparsity::bitmap(50 * 75));
  layer.expect_equal(layer.prune({method("magnitude"), s, true}, {.k = layer.k}), expected, 0);
  const auto result = layer.prune({method("sparsegpt"), s, true}, layer.inputs());
  int64_t kept = 0, kept_of_first = 0;
  for (int64_t i = 0; i < layer.n * layer.k; ++i) {
    kept += result.mask.keeps(i / layer.k, i % layer.k);
    kept_of_first += i < layer.k && result.mask.keeps(0, i);
    if (!result.mask.keeps(i / layer.k, i % layer.k)) {
      ASSERT_EQ(result.w[static_cast<size_t>(i)], 0);
    }
  }
  EXPECT_EQ(kept, 50 * 75);
  EXPECT_NE(kept_of_first, 75);
}

TEST(PruneMatrix, equal_weights_keep_the_left) {
  Layer layer(3, 8);
  layer.w.assign(layer.w.size(), 0.5f);
  for (const bool whole : {false, true}) {
    const auto result = layer.prune({method("magnitude"), Sparsity::bitmap(5), whole}, {.k = 8});
    for (int64_t i = 0; i < 24; ++i)
      EXPECT_EQ(result.mask.keeps(i / 8, i % 8), whole ? i < 15 : i % 8 < 5) << i;
  }
}

TEST(PruneMatrix, is_the_same_for_any_number_of_threads) {
  const Layer layer(131, 150);
  std::vector<float> first;
  for (const int threads : {1, 2, 3, 7}) {
    set_threads(threads);
    const auto result =
        layer.prune({method("sparsegpt"), Sparsity::bitmap(75), false, 16}, layer.inputs());
    if (first.empty()) first = result.w;
    EXPECT_EQ(result.w, first) << threads;
  }
  set_threads(0);
}

TEST(PruneMatrix, inputs_that_say_nothing_are_named) {
  Layer layer(3, 8, 40);
  const StatisticsNeeds all{.mean_square = true, .gram = true};
  EXPECT_EQ(PruneInputs::from(cpu_algebra(), {}, 8, all, true, kDamping).fallback,
            "no token of the calibration text came to it");
  InputStatistics zero = test::statistics_of(all, 5, 8, std::vector<float>(40).data());
  EXPECT_EQ(PruneInputs::from(cpu_algebra(), zero, 8, all, true, kDamping).fallback,
            "its inputs are all zero");
  // One token: the Gram matrix is singular, and damping is not.
  InputStatistics one = test::statistics_of(all, 1, 8, test::uniform_values(8, 1).data());
  const PruneInputs in = PruneInputs::from(cpu_algebra(), one, 8, all, true, kDamping);
  EXPECT_EQ(in.fallback, "");
  EXPECT_FALSE(in.factor.empty());
  const PruneInputs more = PruneInputs::from(cpu_algebra(), one, 8, all, true, {0, 0});
  EXPECT_EQ(more.fallback, "the Gram matrix of its inputs needed damping 0.1 rather than 0");
  EXPECT_FALSE(more.factor.empty());
}

}  // namespace
}  // namespace pith
