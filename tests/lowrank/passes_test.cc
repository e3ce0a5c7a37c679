// Factorization and residuals over the driver: alone, behind and before rounding.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>

#include "core/file.h"
#include "core/hash.h"
#include "core/parallel.h"
#include "lowrank/factorize_pass.h"
#include "lowrank/residual_pass.h"
#include "lowrank/spectra.h"
#include "quant/quantize_pass.h"
#include "runtime/compress/driver.h"
#include "runtime/cpu/cpu_executor.h"
#include "runtime/cpu/decode.h"
#include "runtime/eval/evaluate.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/stop_after.h"
#include "tests/support/test_passes.h"
#include "tests/support/threads.h"
#include "tests/support/tiny_runtime.h"

namespace pith {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class LowRankPasses : public testing::Test {
 protected:
  LowRankPasses() {
    // Weights of a few directions and noise, as those of trained models are more than random ones.
    const auto correlate = [](const std::string& name, std::vector<float>& w) {
      if (name.find("proj") == std::string::npos) return;
      for (size_t i = 0; i < w.size(); ++i)
        w[i] = 0.6f * w[i] + 0.1f * std::sin(0.37f * static_cast<float>(i % 61));
    };
    test::write_tiny_checkpoint(folder_.file("in"),
                                test::tiny_config({.hidden = 64, .ffn = 96, .layers = 2}),
                                DType::kBF16, correlate);
    source_ = open_model(folder_.file("in"));
    for (uint64_t i = 0; i < 9; ++i) windows_.push_back(test::random_tokens(32, 96, i));
  }
  ~LowRankPasses() override { set_threads(0); }

  static std::unique_ptr<Pass> quantize(const char* type, const char* method = "gptq") {
    return make_quantize_pass({.linears = encoding_for_type(type), .method = parse_method(method)});
  }
  static Passes list(std::unique_ptr<Pass> a, std::unique_ptr<Pass> b = nullptr,
                     std::unique_ptr<Pass> c = nullptr) {
    Passes out;
    for (auto* p : {&a, &b, &c}) {
      if (*p) out.push_back(std::move(*p));
    }
    return out;
  }
  std::unique_ptr<ModelSource> run(const Passes& passes, Progress& progress = no_progress()) {
    CompressOptions options;
    options.output = output();
    options.calibration = windows_;
    options.max_fallbacks = max_fallbacks_;
    plan_ = plan_compression(*source_, passes, options);
    compress(*source_, passes, options, progress);
    return open_model(output());
  }
  std::unique_ptr<ModelSource> again(const Passes& passes) {
    remove_file(output());
    return run(passes);
  }
  std::string output() const { return folder_.file("out.pith"); }
  uint64_t bytes() const { return hash64(read_file(output(), 1 << 26)); }

  double divergence(const ModelSource& of) const {
    std::vector<Window> windows;
    for (uint64_t i = 0; i < 4; ++i) windows.push_back({test::random_tokens(32, 96, 50 + i), 0});
    return evaluate_kl(*executor_, load_model(*source_), load_model(of), windows).kl_mean;
  }
  std::vector<float> logits(const Model& model, Executor& executor) const {
    return window_logits(executor, model, {test::random_tokens(20, 96, 50), 0});
  }
  // The file holds what was planned, computes what its dense form computes, and is the same bytes
  // for other threads and after an interruption behind every unit.
  void expect_good(const Passes& passes, const char* form) {
    const auto result = again(passes);
    for (const auto& l : plan_.linears) EXPECT_EQ(result->form(l.info), l.to) << l.info.name;
    EXPECT_EQ(to_string(result->form(linears_of(result->spec(), 0).back())), form);
    expect_near(logits(load_model(*result), *executor_),
                logits(load_dense_model(*result, DType::kF32), *executor_), 1e-4f);
    const uint64_t expected = bytes();
    for (const int threads : {1, 2, 3, 7}) {
      remove_file(output());
      set_threads(threads);
      test::StopAfter stop(threads % 5);
      EXPECT_PITH_ERROR(run(passes, stop), ErrorKind::kCancelled, "enough");
      run(passes);
      EXPECT_EQ(bytes(), expected) << threads << " threads";
    }
    set_threads(0);
  }
  static void expect_near(const std::vector<float>& x, const std::vector<float>& y,
                          float tolerance) {
    ASSERT_EQ(x.size(), y.size());
    float largest = 0;
    for (const float v : y) largest = std::max(largest, std::fabs(v));
    for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], y[i], tolerance * largest);
  }

  test::UnsyncedSyscalls unsynced_;
  ScopedSyscalls scope_{unsynced_};
  test::TemporaryFolder folder_;
  std::unique_ptr<ModelSource> source_;
  std::vector<std::vector<int32_t>> windows_;
  int max_fallbacks_ = 0;
  std::unique_ptr<Executor> executor_ = make_cpu_executor();
  CompressPlan plan_;
};

// ---- Factorization ----

TEST_F(LowRankPasses, a_factorized_model_has_the_share_of_parameters_and_runs) {
  for (const auto method : {FactorizeMethod::kSvd, FactorizeMethod::kSvdLlm})
    expect_good(list(make_factorize_pass({.method = method, .keep_params = 0.7})),
                "rank 24 of f16");
  const auto result = open_model(output());
  EXPECT_THAT(result->manifest()->linears(1).method(), StartsWith("svd-llm rank 16, output error"));
  EXPECT_THAT(result->manifest()->provenance().recipe(), HasSubstr("keep_params: 0.7"));
}

TEST_F(LowRankPasses, whitened_factors_lose_less_than_those_of_plain_svd) {
  const double plain =
                   divergence(*run(list(make_factorize_pass({.method = FactorizeMethod::kSvd})))),
               whitened = divergence(*again(list(make_factorize_pass({}))));
  EXPECT_LT(whitened, 0.8 * plain);
}

TEST_F(LowRankPasses, factors_are_rounded_by_the_pass_behind) {
  expect_good(list(make_factorize_pass({.keep_params = 0.7}), quantize("w8")),
              "rank 24 of int8-g64");
  const double both = divergence(*open_model(output())),
               factors = divergence(*again(list(make_factorize_pass({.keep_params = 0.7}))));
  EXPECT_LT(both, 1.1 * factors + 1e-4);
}

TEST_F(LowRankPasses, ranks_by_name_and_layers_that_stay_dense) {
  const auto result = run(list(make_factorize_pass(
      {.rank = 8,
       .overrides = {{"down", 24}, {"layers.1.mlp.down", 0}, {"layers.0.mlp.up", 60}},
       .ignore = {"o"}})));
  const auto form = [&](const char* name) {
    for (const auto& info : linears_of(result->spec())) {
      if (info.name == name) return to_string(result->form(info));
    }
    return std::string("none");
  };
  EXPECT_EQ(form("layers.0.attention.q"), "rank 8 of f16");
  EXPECT_EQ(form("layers.0.attention.o"), "bf16");
  EXPECT_EQ(form("layers.0.mlp.down"), "rank 24 of f16");
  EXPECT_EQ(form("layers.1.mlp.down"), "bf16");
  EXPECT_EQ(form("layers.0.mlp.up"), "bf16");
  EXPECT_EQ(form("embedding"), "bf16");
  for (const auto& l : result->manifest()->linears()) {
    if (l.name() == "layers.0.mlp.up") {
      EXPECT_EQ(l.method(), "dense, as factors of rank 60 would be no smaller");
    }
    if (l.name() == "layers.0.attention.o") {
      EXPECT_EQ(l.method(), "kept");
    }
  }
}

TEST_F(LowRankPasses, settings_that_make_no_sense_are_refused) {
  const auto make = [](const FactorizeSettings& s) { make_factorize_pass(s); };
  EXPECT_PITH_ERROR(make({.keep_params = 1}), ErrorKind::kUsage, "a share of 1");
  EXPECT_PITH_ERROR(make({.keep_params = 0}), ErrorKind::kUsage, "a share of 0");
  EXPECT_PITH_ERROR(make({.rank = -3}), ErrorKind::kUsage, "rank -3");
  EXPECT_PITH_ERROR(make({.inputs = {.correct_inputs = 2}}), ErrorKind::kUsage, "corrected by 2");
  EXPECT_PITH_ERROR(
      make({.inputs = {.gram = {.damping = std::numeric_limits<double>::quiet_NaN()}}}),
      ErrorKind::kUsage, "damping");
  EXPECT_PITH_ERROR(make_residual_pass({.rank = -1}), ErrorKind::kUsage, "rank -1");
  EXPECT_PITH_ERROR(parse_factorize_method("wanda"), ErrorKind::kUsage, "svd, svd-llm");
  EXPECT_EQ(parse_factorize_method("svd"), FactorizeMethod::kSvd);
  windows_.clear();
  EXPECT_PITH_ERROR(run(list(make_factorize_pass({}))), ErrorKind::kUsage, "svd-llm needs");
  EXPECT_PITH_ERROR(run(list(quantize("w4", "rtn"), make_residual_pass({}))), ErrorKind::kUsage,
                    "a residual needs");
}

TEST_F(LowRankPasses, what_is_pruned_or_has_factors_already_is_not_factorized) {
  EXPECT_PITH_ERROR(run(list(std::make_unique<test::TwoOfFour>(true), make_factorize_pass({}))),
                    ErrorKind::kUnsupported, "layers.0.attention.q: is pruned");
  EXPECT_PITH_ERROR(run(list(quantize("int8-g64-2:4", "rtn"), make_factorize_pass({}))),
                    ErrorKind::kUnsupported, "layers.0.attention.q: is int8-g64");
  EXPECT_PITH_ERROR(run(list(make_factorize_pass({}), make_factorize_pass({}))),
                    ErrorKind::kUnsupported, "q: is rank 24 of f16, and one weight alone");
}

// ---- Residuals ----

TEST_F(LowRankPasses, a_residual_gives_back_some_of_what_rounding_lost) {
  for (const char* method : {"rtn", "gptq"}) {
    const double rounded = divergence(*again(list(quantize("w2", method))));
    expect_good(list(quantize("w2", method), make_residual_pass({.rank = 12})),
                "int2-g64-asym + rank 12 of f16");
    EXPECT_LT(divergence(*open_model(output())), 0.8 * rounded) << method;
  }
}

TEST_F(LowRankPasses, a_residual_of_full_rank_gives_back_all_of_it) {
  const ResidualSettings settings{.rank = 1000, .inputs = {.correct_inputs = 0}};
  EXPECT_LT(divergence(*run(list(quantize("w2", "rtn"), make_residual_pass(settings)))), 1e-4);
}

TEST_F(LowRankPasses, a_whitened_residual_is_better_than_a_plain_one) {
  const auto with = [&](bool whiten) {
    const ResidualSettings settings{.rank = 8, .whiten = whiten, .inputs = {.correct_inputs = 0}};
    return divergence(*again(list(quantize("w2", "rtn"), make_residual_pass(settings))));
  };
  EXPECT_LT(with(true), with(false));
}

TEST_F(LowRankPasses, a_residual_may_have_integer_factors_and_goes_with_pruning) {
  expect_good(list(quantize("w3"),
                   make_residual_pass(
                       {.rank = 8, .overrides = {{"up", 0}}, .factors = Encoding::integer(8, 64)})),
              "int3-g64-asym + rank 8 of int8-g64");
  expect_good(list(std::make_unique<test::TwoOfFour>(false), quantize("w4"),
                   make_residual_pass({.rank = 8})),
              "int4-g64-asym + rank 8 of f16");
}

TEST_F(LowRankPasses, nothing_is_missing_of_dense_layers_and_of_a_packed_source) {
  const auto dense = run(list(make_residual_pass({})));
  EXPECT_EQ(to_string(dense->form(linears_of(dense->spec(), 0).back())), "bf16");
  again(list(quantize("w4", "rtn")));
  rename_file(output(), folder_.file("first.pith"));
  source_ = open_model(folder_.file("first.pith"));
  EXPECT_PITH_ERROR(run(list(make_residual_pass({}))), ErrorKind::kUsage,
                    "layers.0.attention.q: is what the source has");
}

TEST_F(LowRankPasses, factorized_rounded_and_with_a_residual_in_one_run) {
  expect_good(list(make_factorize_pass({.keep_params = 0.7}), quantize("w3"),
                   make_residual_pass({.rank = 4})),
              "rank 24 of int3-g64-asym + rank 4 of f16");
}

// ---- Rounded inputs at run time ----

TEST_F(LowRankPasses, integer_factors_run_with_rounded_inputs) {
  const Passes chains[] = {
      list(make_factorize_pass({.keep_params = 0.7}), quantize("w8")),
      list(quantize("w4"), make_residual_pass({.rank = 8})),
      list(quantize("w4"), make_residual_pass({.rank = 8, .factors = Encoding::integer(8, 64)}))};
  const auto rounding = make_cpu_executor(CpuInputs::kInt8);
  for (const auto& chain : chains) {
    const Model model = load_model(*again(chain));
    expect_near(logits(model, *rounding), logits(model, *executor_), 0.1f);
  }
}

// ---- Ranks by a budget ----

TEST_F(LowRankPasses, ranks_of_a_budget_are_those_of_the_model) {
  const auto curves =
      measure_spectra({.source = *source_, .windows = windows_, .ignore = {"o"}}, *executor_);
  EXPECT_EQ(curves.size(), 12u);
  EXPECT_EQ(curves.front().name, "layers.0.attention.q");
  int64_t parameters = 0;
  for (const auto& c : curves) parameters += c.n * c.k;
  const RankChoice choice = choose_ranks(curves, parameters * 7 / 10, 4);
  EXPECT_LE(choice.parameters, parameters * 7 / 10);
  const auto result = run(list(make_factorize_pass({.overrides = choice.ranks, .ignore = {"o"}})));
  int64_t stored = 0;
  for (const auto& info : linears_of(result->spec())) {
    if (info.layer < 0 || info.role == LinearRole::kOutput) continue;
    const TermForm t = result->form(info).terms.front();
    stored += t.rank > 0 ? t.rank * (info.n + info.k) : info.n * info.k;
  }
  EXPECT_EQ(stored, choice.parameters);
  test::expect_same_on_any_number_of_threads([&] {
    std::vector<double> all;
    for (const auto& c : measure_spectra({.source = *source_, .windows = windows_}, *executor_))
      all.insert(all.end(), c.squares.begin(), c.squares.end());
    return all;
  });
}

// ---- Mixtures ----

TEST_F(LowRankPasses, an_expert_that_no_token_came_to_has_the_factors_of_plain_svd) {
  test::write_tiny_checkpoint(folder_.file("moe"),
                              test::tiny_moe_config({.hidden = 64, .ffn = 96, .layers = 1}, 8, 1));
  source_ = open_model(folder_.file("moe"));
  windows_ = {{1, 2, 3}};
  EXPECT_PITH_ERROR(run(list(make_factorize_pass({}))), ErrorKind::kNumeric,
                    "no token of the calibration text came to it: plain SVD");
  max_fallbacks_ = 100;
  const auto result = run(list(make_factorize_pass({})));
  int plain = 0;
  for (const auto& l : result->manifest()->linears()) plain += l.method().starts_with("svd rank");
  EXPECT_GE(plain, 15);
}

}  // namespace
}  // namespace pith
