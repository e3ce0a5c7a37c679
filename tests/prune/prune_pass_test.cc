// Pruning over the driver: alone, stored dense and sparse, and before rounding.

#include "prune/prune_pass.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/file.h"
#include "core/hash.h"
#include "core/parallel.h"
#include "quant/quantize_pass.h"
#include "runtime/compress/driver.h"
#include "runtime/cpu/cpu_executor.h"
#include "runtime/cpu/decode.h"
#include "runtime/eval/evaluate.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/stop_after.h"
#include "tests/support/test_passes.h"
#include "tests/support/tiny_runtime.h"

namespace pith {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

PruneSettings settings(const char* method, const char* target, PrunedAs as = PrunedAs::kDense) {
  return {.method = &parse_prune_method(method), .target = parse_prune_target(target), .as = as};
}

TEST(PruneSettings, names_and_sparsities_are_parsed_and_what_is_near_is_named) {
  for (const auto& m : prune_methods()) EXPECT_EQ(&parse_prune_method(m.name), &m);
  EXPECT_PITH_ERROR(parse_prune_method("wnada"), ErrorKind::kUsage, "did you mean wanda?");
  EXPECT_PITH_ERROR(parse_prune_method("x"), ErrorKind::kUsage, "magnitude, wanda, sparsegpt");
  EXPECT_EQ(parse_prune_target("0.5"), PruneTarget::share(0.5));
  EXPECT_EQ(parse_prune_target("50%"), PruneTarget::share(0.5));
  EXPECT_EQ(parse_prune_target("2:4"), PruneTarget::n_of_m(2, 4));
  for (const char* text : {"", "%", "half", "0.5x", "2:", ":4", "2:4:8", "nan", "bitmap3"})
    EXPECT_PITH_ERROR(parse_prune_target(text), ErrorKind::kUsage, "is expected");
  for (const char* text : {"1", "-0.1", "1.5", "100%", "4:4", "0:4", "5:4", "1:5000"})
    EXPECT_PITH_ERROR(parse_prune_target(text), ErrorKind::kUsage, "");
  EXPECT_EQ(to_string(PruneTarget::share(0.5)), "0.5");
}

TEST(PruneSettings, contradictions_are_refused) {
  PruneSettings s = settings("wanda", "0.5");
  s.target = PruneTarget::share(0);
  EXPECT_PITH_ERROR(make_prune_pass(s), ErrorKind::kUsage, "above 0");
  s = settings("wanda", "0.5", PrunedAs::kSparse);
  s.within = PruneWithin::kMatrix;
  EXPECT_PITH_ERROR(make_prune_pass(s), ErrorKind::kUsage, "cannot be stored sparse");
  s = settings("wanda", "0.5");
  s.dtype = DType::kI8;
  EXPECT_PITH_ERROR(make_prune_pass(s), ErrorKind::kUsage, "not i8");
  s = settings("wanda", "0.5");
  s.overrides = {{"down", PruneTarget::share(1)}};
  EXPECT_PITH_ERROR(make_prune_pass(s), ErrorKind::kUsage, "below 1");
}

TEST(PruneForm, says_what_a_linear_becomes) {
  const LinearInfo down{.name = "layers.1.mlp.down",
                        .role = LinearRole::kDown,
                        .layer = 1,
                        .sublayer = 1,
                        .n = 64,
                        .k = 101,
                        .bias = false};
  const auto form_of = [&](const PruneSettings& s, const char* so_far, LinearInfo info) {
    return to_string(make_prune_pass(s)->form(info, plain_form(parse_encoding(so_far))));
  };
  EXPECT_EQ(form_of(settings("wanda", "0.5"), "bf16", down), "bf16");
  EXPECT_EQ(form_of(settings("wanda", "0.5", PrunedAs::kSparse), "bf16", down), "bf16-bitmap51");
  EXPECT_EQ(form_of(settings("wanda", "2:4", PrunedAs::kSparse), "int4-g32", down), "f16-2:4");
  EXPECT_EQ(form_of(settings("wanda", "2:4", PrunedAs::kMask), "int4-g32", down), "int4-g32");
  PruneSettings s = settings("wanda", "2:4", PrunedAs::kSparse);
  s.dtype = DType::kF32;
  s.overrides = {{"mlp.*", PruneTarget::share(0.9)}, {"*.down", PruneTarget::share(0.75)}};
  EXPECT_EQ(form_of(s, "bf16", down), "f32-bitmap26");
  s.ignore = {"re:layers\\.[12]"};
  EXPECT_EQ(form_of(s, "bf16", down), "bf16");
  s.ignore = {};
  s.overrides = {{"down", PruneTarget::share(0)}};
  EXPECT_EQ(form_of(s, "bf16", down), "bf16");
  for (const LinearRole role : {LinearRole::kRouter, LinearRole::kSharedGate}) {
    LinearInfo gate = down;
    gate.role = role;
    EXPECT_EQ(form_of(settings("wanda", "2:4", PrunedAs::kSparse), "bf16", gate), "bf16");
  }
  LinearInfo head = down;
  head.layer = -1;
  head.role = LinearRole::kHead;
  EXPECT_EQ(form_of(settings("wanda", "2:4", PrunedAs::kSparse), "bf16", head), "bf16");

  EXPECT_PITH_ERROR(form_of(settings("wanda", "0.005"), "bf16", down), ErrorKind::kUsage,
                    "layers.1.mlp.down: sparsity 0.005 keeps all of its 101 columns");
  LinearInfo narrow = down;
  narrow.k = 2;
  EXPECT_PITH_ERROR(form_of(settings("wanda", "2:4"), "bf16", narrow), ErrorKind::kUsage, "all");
  EXPECT_PITH_ERROR(form_of(settings("wanda", "2:4"), "bf16-2:4", down), ErrorKind::kUnsupported,
                    "layers.1.mlp.down: is sparse already");
  const Encoding f16 = Encoding::dense(DType::kF16);
  EXPECT_PITH_ERROR(make_prune_pass(settings("wanda", "2:4"))
                        ->form(down, {.terms = {{f16, 8, f16}}, .input = {}}),
                    ErrorKind::kUnsupported, "layers.1.mlp.down: is rank 8 of f16");
}

// ---- Runs

class Prune : public testing::Test {
 protected:
  Prune() {
    test::write_tiny_checkpoint(folder_.file("in"),
                                test::tiny_config({.hidden = 64, .ffn = 100, .layers = 2}),
                                DType::kBF16);
    source_ = open_model(folder_.file("in"));
    for (uint64_t i = 0; i < 9; ++i) windows_.push_back(test::random_tokens(32, 96, i));
  }
  ~Prune() override { set_threads(0); }

  static Passes list(const PruneSettings& s, const char* type = nullptr) {
    Passes passes;
    passes.push_back(make_prune_pass(s));
    if (type != nullptr) {
      passes.push_back(make_quantize_pass({.linears = encoding_for_type(type),
                                           .method = parse_method("gptq"),
                                           .gptq = {.correct_inputs = 0}}));
    }
    return passes;
  }
  std::unique_ptr<ModelSource> run(const Passes& passes, Progress& progress = no_progress()) {
    compress(*source_, passes, options(), progress);
    return open_model(output());
  }
  CompressOptions options() const { return {.output = output(), .calibration = windows_}; }
  std::string output() const { return folder_.file("out.pith"); }
  uint64_t bytes() const { return hash64(read_file(output(), 1 << 26)); }

  static std::vector<float> weights(const ModelSource& source, const LinearInfo& info) {
    std::vector<float> w(static_cast<size_t>(info.n * info.k));
    decode_rows(source.linear(info), 0, info.n, w.data());
    return w;
  }
  // In each row, or each four columns, as many weights are not zero as are kept.
  static void expect_kept(const ModelSource& source, const Sparsity& four_or_share) {
    for (const auto& info : linears_of(source.spec())) {
      if (info.layer < 0) continue;
      const auto w = weights(source, info);
      const bool fours = four_or_share.kind == SparsityKind::kNM;
      for (int64_t r = 0; r < info.n; ++r) {
        const int64_t step = fours ? 4 : info.k;
        for (int64_t c = 0; c < info.k; c += step) {
          const auto begin = w.begin() + r * info.k + c;
          EXPECT_EQ(step - std::count(begin, begin + step, 0.0f), fours ? 2 : info.k / 2)
              << info.name << " " << r << " " << c;
        }
      }
    }
  }
  // What the file computes is what its decoded weights do.
  void expect_runs(const ModelSource& source) const {
    const auto logits = [&](const Model& model) {
      const auto executor = make_cpu_executor();
      return window_logits(*executor, model, {test::random_tokens(20, 96, 50), 0});
    };
    const auto x = logits(load_model(source)), y = logits(load_dense_model(source, DType::kF32));
    float largest = 0;
    for (const float v : y) largest = std::max(largest, std::fabs(v));
    for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], y[i], 1e-4f * largest);
  }
  // The same bytes after an interruption behind every unit, by any number of threads.
  void expect_same_bytes(const Passes& passes) {
    const uint64_t expected = bytes();
    const int threads[] = {1, 2, 3, 7};
    for (int64_t units = 1; units < source_->spec().layers_size() + 3; ++units) {
      remove_file(output());
      set_threads(threads[units % 4]);
      test::StopAfter stop(units);
      EXPECT_PITH_ERROR(run(passes, stop), ErrorKind::kCancelled, "enough");
      run(passes);
      EXPECT_EQ(bytes(), expected) << "after " << units << " units";
    }
  }

  test::UnsyncedSyscalls unsynced_;
  ScopedSyscalls scope_{unsynced_};
  test::TemporaryFolder folder_;
  std::unique_ptr<ModelSource> source_;
  std::vector<std::vector<int32_t>> windows_;
};

TEST_F(Prune, alone_is_stored_with_its_zeros_or_sparse_and_means_the_same) {
  for (const char* method : {"magnitude", "wanda", "sparsegpt"}) {
    for (const char* target : {"0.5", "2:4"}) {
      SCOPED_TRACE(std::string(method) + " " + target);
      const auto dense = run(list(settings(method, target)));
      rename_file(output(), folder_.file("dense.pith"));
      const auto sparse = run(list(settings(method, target, PrunedAs::kSparse)));
      const Sparsity s = parse_prune_target(target).pattern.kind == SparsityKind::kNM
                             ? Sparsity::n_of_m(2, 4)
                             : Sparsity{};
      expect_kept(*sparse, s);
      for (const auto& info : linears_of(source_->spec())) {
        if (info.layer < 0) {
          EXPECT_EQ(sparse->form(info), source_->form(info));
          continue;
        }
        EXPECT_EQ(to_string(dense->form(info)), "bf16");
        EXPECT_TRUE(sparse->form(info).terms.front().weight.is_sparse());
      }
      // The first layer has the same inputs in both.
      for (const auto& info : linears_of(source_->spec(), 0))
        EXPECT_EQ(weights(*dense, info), weights(*sparse, info)) << info.name;
      expect_runs(*sparse);
      EXPECT_THAT(dense->manifest()->linears(1).method(),
                  StartsWith(fmt::format("{} {}", method, target)));
      remove_file(output());
    }
  }
}

TEST_F(Prune, alone_is_the_same_bytes_for_any_threads_and_interruption) {
  const auto passes = list(settings("sparsegpt", "0.5", PrunedAs::kSparse));
  run(passes);
  expect_same_bytes(passes);
}

TEST_F(Prune, before_rounding_the_file_has_the_zeros_of_the_mask) {
  for (const PrunedAs as : {PrunedAs::kMask, PrunedAs::kDense, PrunedAs::kSparse}) {
    const auto passes = list(settings("sparsegpt", "2:4", as), "int4-g32-2:4");
    const auto result = run(passes);
    for (const auto& info : linears_of(source_->spec())) {
      if (info.layer < 0) continue;
      EXPECT_EQ(to_string(result->form(info)), "int4-g32-2:4");
    }
    expect_runs(*result);
    if (as == PrunedAs::kMask) expect_same_bytes(passes);
    EXPECT_THAT(result->manifest()->linears(1).method(), HasSubstr(" + gptq"));
    // The mask of the first layer is that of pruning alone: its plane, and not only where codes are
    // zero.
    rename_file(output(), folder_.file("both.pith"));
    const auto both = open_model(folder_.file("both.pith"));
    const auto alone = run(list(settings("sparsegpt", "2:4", PrunedAs::kSparse)));
    for (const auto& info : linears_of(source_->spec(), 0)) {
      if (info.role != LinearRole::kQuery) continue;
      const auto plane = [&](const ModelSource& s) {
        return stored_mask(s.linear(info).terms.front().w, 0, info.n);
      };
      EXPECT_EQ(plane(*both), plane(*alone)) << info.name;
    }
    remove_file(output());
  }
}

TEST_F(Prune, a_mask_that_nobody_rounds_by_is_refused) {
  EXPECT_PITH_ERROR(run(list(settings("wanda", "2:4", PrunedAs::kMask))), ErrorKind::kNumeric,
                    "was pruned, and is");
}

TEST_F(Prune, what_was_pruned_already_is_refused) {
  Passes twice = list(settings("magnitude", "2:4", PrunedAs::kMask));
  twice.push_back(make_prune_pass(settings("magnitude", "2:4")));
  EXPECT_PITH_ERROR(run(twice), ErrorKind::kUnsupported,
                    "layers.0.attention.q: an earlier step pruned it already");
}

TEST_F(Prune, methods_that_need_a_text_say_so) {
  for (const char* method : {"wanda", "sparsegpt"}) {
    windows_.clear();
    EXPECT_PITH_ERROR(run(list(settings(method, "0.5"))), ErrorKind::kUsage,
                      "needs a calibration text");
  }
  run(list(settings("magnitude", "0.5")));
  PruneSettings refined = settings("magnitude", "0.5");
  refined.refine = 8;
  remove_file(output());
  EXPECT_PITH_ERROR(run(list(refined)), ErrorKind::kUsage, "needs a calibration text");
}

TEST_F(Prune, refinement_brings_outputs_closer) {
  const auto error = [&](const char* method, int refine) {
    PruneSettings s = settings(method, "0.5");
    s.refine = refine;
    const auto result = run(list(s));
    const auto executor = make_cpu_executor();
    std::vector<Window> windows;
    for (const auto& w : windows_) windows.push_back({w, 0});
    const double kl =
        evaluate_kl(*executor, load_model(*source_), load_model(*result), windows).kl_mean;
    remove_file(output());
    return kl;
  };
  const double plain = error("magnitude", 0);
  EXPECT_LT(error("magnitude", 16), 0.9 * plain);
  EXPECT_LT(error("sparsegpt", 0), 0.9 * plain);
}

TEST(PruneMoe, routers_stay_and_experts_without_tokens_are_fallbacks) {
  test::UnsyncedSyscalls unsynced;
  ScopedSyscalls scope(unsynced);
  const test::TemporaryFolder folder;
  test::write_tiny_checkpoint(folder.file("in"),
                              test::tiny_moe_config({.hidden = 64, .ffn = 96, .layers = 1}, 8, 2),
                              DType::kBF16);
  const auto source = open_model(folder.file("in"));
  Passes passes;
  passes.push_back(make_prune_pass(settings("sparsegpt", "2:4", PrunedAs::kSparse)));
  const CompressOptions options{
      .output = folder.file("out.pith"), .max_fallbacks = 100, .calibration = {{1, 2}}};
  const CompressReport report = compress(*source, passes, options);
  EXPECT_FALSE(report.fallbacks.empty());
  for (const auto& f : report.fallbacks)
    EXPECT_THAT(f,
                HasSubstr("no token of the calibration text came to it: pruned as by magnitude"));
  const auto result = open_model(options.output);
  for (const auto& info : linears_of(source->spec())) {
    const bool pruned = info.layer >= 0 && info.role != LinearRole::kRouter;
    EXPECT_EQ(result->form(info).terms.front().weight.is_sparse(), pruned) << info.name;
  }
}

}  // namespace
}  // namespace pith
