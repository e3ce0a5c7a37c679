// Several passes in one run: masks that rounding keeps, factors that are rounded, residuals behind
// it; and sources of other shapes. The passes are those of tests/support/test_passes.h.

#include "runtime/compress/pass.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/file.h"
#include "core/hash.h"
#include "core/parallel.h"
#include "quant/quantize_pass.h"
#include "runtime/compress/driver.h"
#include "runtime/cpu/cpu_algebra.h"
#include "runtime/cpu/cpu_executor.h"
#include "runtime/cpu/decode.h"
#include "runtime/eval/evaluate.h"
#include "tests/support/encodings.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/process.h"
#include "tests/support/stop_after.h"
#include "tests/support/test_passes.h"
#include "tests/support/tiny_runtime.h"

namespace pith {
namespace {

using testing::HasSubstr;

// ---- Masks ----

// 48 x 96 weights, of which the two smallest of each four are dropped.
struct Pruned {
  int64_t n = 48, k = 96;
  std::vector<float> w = test::uniform_values(n * k, 7);
  Mask mask{n, k};
  std::vector<float> gram;

  Pruned() {
    for (int64_t at = 0; at < n * k; at += 4) {
      int64_t order[] = {0, 1, 2, 3};
      std::ranges::sort(order, {}, [&](int64_t i) { return std::fabs(at_(at + i)); });
      for (int i = 0; i < 2; ++i) mask.drop(at / k, at % k + order[i]);
    }
    auto x = test::uniform_values(300 * k, 8);
    for (size_t i = 1; i < x.size(); ++i) x[i] += 0.8f * x[i - 1];
    StatisticsBuilder statistics(cpu_algebra(), "x", {.mean_square = true, .gram = true}, k);
    statistics.add(MatrixRef<const float>{x.data(), 300, k});
    const InputStatistics s = statistics.finish();
    gram.assign(s.gram.begin(), s.gram.end());
  }
  float at_(int64_t i) const { return w[static_cast<size_t>(i)]; }

  // Decoded weights of a method with or without the mask.
  template <class Encode>
  std::vector<float> rounded(const Encoding& e, bool masked, Encode encode_rows) const {
    OwnedWeight q = allocate_weight(e, n, k);
    std::vector<uint64_t> row_hashes(static_cast<size_t>(n));
    encode_rows(RowJob{e, n, k, 0, n, w.data(), nullptr, 1, q.planes, row_hashes.data(),
                       masked ? mask.rows(0, n) : std::span<const uint32_t>{}});
    std::vector<float> out(w.size());
    reference_decode(q.weight, 0, n, out.data());
    return out;
  }
  // (w - q) H (w - q)^T over all rows, in f64.
  double loss(const std::vector<float>& q) const {
    double total = 0;
    const auto kk = static_cast<size_t>(k);
    for (size_t r = 0; r < static_cast<size_t>(n); ++r) {
      for (size_t i = 0; i < kk; ++i) {
        for (size_t j = 0; j < kk; ++j) {
          total += static_cast<double>(w[r * kk + i] - q[r * kk + i]) *
                   static_cast<double>(gram[i * kk + j]) *
                   static_cast<double>(w[r * kk + j] - q[r * kk + j]);
        }
      }
    }
    return total;
  }
  void expect_zeros(const std::vector<float>& q, const std::string& what) const {
    int64_t others = 0;
    for (int64_t i = 0; i < n * k; ++i) {
      const float v = q[static_cast<size_t>(i)];
      if (!mask.keeps(i / k, i % k)) {
        ASSERT_EQ(v, 0) << what << ", " << i;
      } else {
        others += v != 0;
      }
    }
    EXPECT_GT(others, n * k / 3) << what;
  }
};

TEST(Mask, rounding_row_by_row_keeps_zeros_and_looks_at_the_other_weights_alone) {
  const Pruned p;
  for (const char* type : {"int4-g32-asym", "int2-g32", "int8-row", "int4-g32-s8", "nf4-g32",
                           "mxfp4", "fp8e4m3-row", "fp8e4m3-tensor", "bf16"}) {
    const Encoding e = parse_encoding(type);
    for (const auto encode_rows : {encode_rtn, encode_minmax}) {
      const auto q = p.rounded(e, true, encode_rows);
      p.expect_zeros(q, type);
      Pruned zeroed = p;
      for (int64_t i = 0; i < p.n * p.k; ++i)
        if (!p.mask.keeps(i / p.k, i % p.k)) zeroed.w[static_cast<size_t>(i)] = 0;
      EXPECT_EQ(q, zeroed.rounded(e, false, encode_rows)) << type;
    }
  }
}

TEST(Mask, gptq_keeps_zeros_and_makes_up_for_them) {
  const Pruned p;
  for (const char* type : {"int4-g32-asym", "int3-g32", "int4-row", "nf4-g32", "fp8e4m3-row"}) {
    const Encoding e = parse_encoding(type);
    for (const bool static_groups : {false, true}) {
      const GptqOptions options{.damping = 0.01, .shrink = 0, .static_groups = static_groups};
      const auto factor =
          GptqFactor::make(cpu_algebra(), p.gram.data(), p.k, gptq_group(e, p.k), options);
      ASSERT_NE(factor, nullptr);
      GptqLoss said;
      const auto gptq = [&](const RowJob& job) { said = factor->encode(options, job); };
      auto after = p.rounded(e, false, gptq);  // rounded first, then pruned
      for (int64_t i = 0; i < p.n * p.k; ++i)
        if (!p.mask.keeps(i / p.k, i % p.k)) after[static_cast<size_t>(i)] = 0;
      const auto q = p.rounded(e, true, gptq);
      p.expect_zeros(q, type);
      EXPECT_LT(p.loss(q), 0.6 * p.loss(after)) << type;
      EXPECT_NEAR(said.error, p.loss(q), 0.2 * p.loss(q)) << type << ": damping counts there";
    }
  }
}

// ---- Runs ----

class SeveralPasses : public testing::Test {
 protected:
  SeveralPasses() {
    test::write_tiny_checkpoint(folder_.file("in"),
                                test::tiny_config({.hidden = 64, .ffn = 96, .layers = 2}),
                                DType::kBF16);
    source_ = open_model(folder_.file("in"));
    for (uint64_t i = 0; i < 9; ++i) windows_.push_back(test::random_tokens(32, 96, i));
  }
  ~SeveralPasses() override { set_threads(0); }

  static std::unique_ptr<Pass> quantize(const char* type, const char* method) {
    return make_quantize_pass({.linears = encoding_for_type(type), .method = parse_method(method)});
  }
  template <class... P>
  static Passes list(P... passes) {
    Passes out;
    (out.push_back(std::move(passes)), ...);
    return out;
  }
  std::unique_ptr<ModelSource> run(const ModelSource& source, const Passes& passes,
                                   Progress& progress = no_progress()) {
    plan_ = plan_compression(source, passes, options());
    compress(source, passes, options(), progress);
    return open_model(output());
  }
  CompressOptions options() const { return {.output = output(), .calibration = windows_}; }
  std::string output() const { return folder_.file("out.pith"); }
  uint64_t bytes() const { return hash64(read_file(output(), 1 << 26)); }

  std::vector<float> logits(const Model& model) const {
    return window_logits(*executor_, model, {test::random_tokens(20, 96, 50), 0});
  }
  void expect_same_logits(const Model& a, const Model& b, float tolerance = 1e-4f) const {
    const auto x = logits(a), y = logits(b);
    ASSERT_EQ(x.size(), y.size());
    float largest = 0;
    for (const float v : y) largest = std::max(largest, std::fabs(v));
    for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], y[i], tolerance * largest);
  }
  // The file holds what was planned, computes what its dense form computes, and is the same bytes
  // for other threads and after an interruption behind every unit.
  void expect_good(const Passes& passes, const char* form) {
    const auto result = run(*source_, passes);
    for (const auto& l : plan_.linears) EXPECT_EQ(result->form(l.info), l.to) << l.info.name;
    const auto down = linears_of(result->spec(), 0).back();
    EXPECT_EQ(to_string(result->form(down)), form);
    expect_same_logits(load_model(*result), load_dense_model(*result, DType::kF32));
    const auto r = test::run_process({PITH_PROGRAM, "inspect", output(), "--tensors"});
    EXPECT_THAT(r.out, HasSubstr(form)) << r.err;
    const uint64_t expected = bytes();
    for (int64_t units = 1; units < source_->spec().layers_size() + 3; ++units) {
      remove_file(output());
      set_threads(static_cast<int>(units % 3) + 1);
      test::StopAfter stop(units);
      EXPECT_PITH_ERROR(run(*source_, passes, stop), ErrorKind::kCancelled, "enough");
      run(*source_, passes);
      EXPECT_EQ(bytes(), expected) << "after " << units << " units";
    }
  }

  test::UnsyncedSyscalls unsynced_;
  ScopedSyscalls scope_{unsynced_};
  test::TemporaryFolder folder_;
  std::unique_ptr<ModelSource> source_;
  std::vector<std::vector<int32_t>> windows_;
  std::unique_ptr<Executor> executor_ = make_cpu_executor();
  CompressPlan plan_;
};

TEST_F(SeveralPasses, pruned_then_rounded_by_gptq_has_its_zeros) {
  expect_good(list(std::make_unique<test::TwoOfFour>(false), quantize("w4", "gptq")),
              "int4-g64-asym");
  const auto result = open_model(output());
  for (const auto& info : linears_of(result->spec())) {
    if (info.layer < 0) continue;
    std::vector<float> w(static_cast<size_t>(info.n * info.k));
    decode_rows(result->linear(info), 0, info.n, w.data());
    for (size_t i = 0; i < w.size(); i += 4)
      ASSERT_GE(std::count(w.begin() + static_cast<int64_t>(i),
                           w.begin() + static_cast<int64_t>(i) + 4, 0.0f),
                2)
          << info.name;
  }
  EXPECT_THAT(result->manifest()->linears(1).method(), testing::StartsWith("2:4 + gptq"));
}

TEST_F(SeveralPasses, weights_that_were_pruned_and_are_not_zero_are_refused) {
  EXPECT_PITH_ERROR(run(*source_, list(std::make_unique<test::TwoOfFour>(false))),
                    ErrorKind::kNumeric, "was pruned, and is");
  EXPECT_FALSE(file_exists(output()));
  run(*source_, list(std::make_unique<test::TwoOfFour>(true)));
}

TEST_F(SeveralPasses, a_residual_behind_rounding_sees_the_original) {
  for (const char* method : {"rtn", "gptq"}) {
    remove_file(output());
    const auto plain = run(*source_, list(quantize("w3", method)));
    std::map<std::string, double> error;
    for (const auto& l : plain->manifest()->linears()) error[l.name()] = l.relative_error();
    remove_file(output());
    expect_good(list(quantize("w3", method), std::make_unique<test::Residual>(8)),
                "int3-g64-asym + rank 8 of f16");
    const auto result = open_model(output());
    for (const auto& l : result->manifest()->linears()) {
      if (!l.name().starts_with("layers.")) continue;
      EXPECT_LT(l.relative_error(), 0.8 * error[l.name()]) << l.name();
    }
  }
}

TEST_F(SeveralPasses, both_factors_of_a_layer_are_rounded) {
  for (const char* method : {"rtn", "gptq"}) {
    remove_file(output());
    expect_good(list(std::make_unique<test::Factorize>(), quantize("w8", method)),
                "rank 32 of int8-g64");
  }
}

TEST_F(SeveralPasses, gptq_rounds_factors_for_their_own_inputs) {
  const auto logits_of = [&](const char* type, const char* method) {
    remove_file(output());
    const auto result =
        run(*source_, list(std::make_unique<test::Factorize>(), quantize(type, method)));
    return logits(load_model(*result));
  };
  const auto base = logits_of("f32", "rtn");
  const auto error_of = [&](const char* method) {
    const auto now = logits_of("w4", method);
    double sum = 0;
    for (size_t i = 0; i < base.size(); ++i)
      sum += std::pow(static_cast<double>(base[i]) - static_cast<double>(now[i]), 2);
    return sum;
  };
  EXPECT_LT(error_of("gptq"), 0.8 * error_of("rtn"));
}

TEST_F(SeveralPasses, four_in_one_run) {
  expect_good(list(std::make_unique<test::TwoOfFour>(true), std::make_unique<test::Factorize>(),
                   quantize("w4", "awq+gptq"), std::make_unique<test::Residual>(3)),
              "rank 32 of int4-g64-asym + rank 3 of f16");
}

TEST_F(SeveralPasses, a_packed_model_of_several_terms_can_be_rounded_again) {
  run(*source_, list(quantize("w8", "rtn"), std::make_unique<test::Residual>(4)));
  rename_file(output(), folder_.file("first.pith"));
  source_ = open_model(folder_.file("first.pith"));
  expect_good(list(quantize("w4", "gptq")), "int4-g64-asym + rank 4 of int4-g64-asym");
}

class Liar final : public Pass {
 public:
  std::string recipe() const override { return "  - liar\n"; }
  LinearForm form(const LinearInfo&, const LinearForm& so_far) const override { return so_far; }
  void apply(const StageContext& at) override {
    const auto& info = at.stage.linears.front();
    find_linear(at.block, info).terms.front().w =
        encode(Encoding::integer(8, 64), info.n, info.k,
               std::vector<float>(static_cast<size_t>(info.n * info.k), 1.0f).data());
    at.report[info.name].method = "another form";
  }
};
TEST_F(SeveralPasses, a_form_that_was_not_planned_is_refused) {
  EXPECT_PITH_ERROR(run(*source_, list(std::make_unique<Liar>())), ErrorKind::kNumeric,
                    "layers.0.attention.q: is int8-g64 with inputs f32, and bf16");
}

// ---- Other shapes ----

TEST_F(SeveralPasses, models_of_other_shapes_are_compressed_and_run) {
  const test::DroppedLayer dropped(*source_, 0);
  const test::HalvedMlp halved(*source_, 1);
  const test::HalvedMlp both(dropped, 0);
  for (const ModelSource* source :
       {static_cast<const ModelSource*>(&dropped), static_cast<const ModelSource*>(&halved),
        static_cast<const ModelSource*>(&both)}) {
    remove_file(output());
    const auto dense = run(*source, list(quantize("f32", "rtn")));
    EXPECT_EQ(dense->spec().layers_size(), source->spec().layers_size());
    expect_same_logits(load_model(*dense), load_model(*source), 0.02f);  // the embedding has 8 bits
    remove_file(output());
    const auto packed = run(*source, list(quantize("w4", "gptq")));
    expect_same_logits(load_model(*packed), load_dense_model(*packed, DType::kF32));
    EXPECT_THAT(packed->manifest()->provenance().recipe(), HasSubstr(source->recipe()));
  }
  EXPECT_EQ(both.spec().layers(0).sublayers(1).mlp().width(), 48u);
}

}  // namespace
}  // namespace pith
