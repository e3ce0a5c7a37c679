// Mixtures of experts, and latent attention with its heads, through calibration and compression.

#include <gtest/gtest.h>

#include <cmath>

#include "core/parallel.h"
#include "quant/quantize_pass.h"
#include "runtime/compress/driver.h"
#include "runtime/cpu/cpu_executor.h"
#include "runtime/eval/evaluate.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

class Moe : public testing::Test {
 protected:
  static constexpr test::TinySizes kSizes{.hidden = 64, .ffn = 48, .layers = 2, .vocab = 90};
  void open(int experts, int chosen) { open(test::tiny_moe_config(kSizes, experts, chosen)); }
  void open(const std::string& config) {
    test::write_tiny_checkpoint(folder_.file("in"), config, DType::kBF16);
    source_ = open_model(folder_.file("in"));
  }
  ~Moe() override { set_threads(0); }

  std::vector<std::vector<int32_t>> text(size_t windows, size_t tokens) const {
    std::vector<std::vector<int32_t>> out(windows);
    for (size_t w = 0; w < windows; ++w) {
      for (size_t t = 0; t < tokens; ++t)
        out[w].push_back(static_cast<int32_t>((w * 31 + t * t * 7 + t * 3) % 90));
    }
    return out;
  }
  CompressReport quantize(const std::string& method,
                          const std::vector<std::vector<int32_t>>& calibration,
                          int max_fallbacks = 0) {
    Passes passes;
    passes.push_back(make_quantize_pass({.linears = encoding_for_type("int4-g16-asym"),
                                         .method = parse_method(method),
                                         .gptq = {.shrink = 0},  // measured on text like this
                                         .ignore = {},
                                         .overrides = {}}));
    CompressOptions options{.output = folder_.file("out.pith"), .calibration = calibration};
    options.max_fallbacks = max_fallbacks;
    return compress(*source_, passes, options);
  }
  double divergence() {
    const auto packed = open_model(folder_.file("out.pith"));
    const Model before = load_model(*source_), after = load_model(*packed);
    const auto executor = make_cpu_executor();
    std::vector<int32_t> tokens;
    for (int32_t i = 0; i < 60; ++i) tokens.push_back(i * i % 90);
    const Window window{tokens, 1};
    const auto p = window_logits(*executor, before, window),
               q = window_logits(*executor, after, window);
    double error = 0, norm = 0;
    for (size_t i = 0; i < p.size(); ++i) {
      error += std::pow(static_cast<double>(p[i] - q[i]), 2);
      norm += std::pow(static_cast<double>(p[i]), 2);
    }
    return error / norm;
  }

  test::UnsyncedSyscalls unsynced_;
  ScopedSyscalls scope_{unsynced_};
  test::TemporaryFolder folder_;
  std::unique_ptr<ModelSource> source_;
};

// What comes to the experts is what comes to the router, each token as often as it chooses.
TEST_F(Moe, gives_each_expert_the_statistics_of_its_own_tokens) {
  open(5, 2);
  const auto executor = make_cpu_executor();
  CalibrationStates states(*executor, source_->spec(),
                           source_->linear(linears_of(source_->spec()).front()), text(6, 40));
  const Block block = load_block(*source_, 0);
  Calibration calibration(*executor, states, nullptr, {});
  calibration.begin(block, block);
  calibration.advance(block, block, 0);
  std::vector<double> router, experts;  // sums of squares
  int64_t tokens = 0;
  for (const auto& stage : stages_of(source_->spec(), 0)) {
    if (stage.sublayer != 1) continue;
    const LinearInfo& first = stage.linears.front();
    const auto s = calibration.inputs(stage, {.mean_square = true, .gram = true});
    if (first.role == LinearRole::kRouter) {
      router = s.mean_square;
      EXPECT_EQ(s.tokens, 240);
      EXPECT_EQ(stage.linears.size(), 1u);
      experts.resize(router.size());
    } else if (first.role == LinearRole::kGate) {
      EXPECT_EQ(stage.linears.size(), 2u);
      tokens += s.tokens;
      for (size_t i = 0; i < experts.size(); ++i)
        experts[i] += s.mean_square[i] * static_cast<double>(s.tokens);
    } else {
      EXPECT_EQ(stage.k(), 48);
      EXPECT_GT(s.tokens, 0);
      EXPECT_NEAR(s.gram[0], s.mean_square[0], 1e-5 * s.mean_square[0]);
    }
  }
  EXPECT_EQ(tokens, 2 * 240);
  for (size_t i = 0; i < router.size(); ++i)
    EXPECT_NEAR(experts[i], 2 * 240 * router[i], 1e-5 * experts[i]);
}

TEST_F(Moe, is_quantized_expert_by_expert_and_keeps_its_router) {
  open(4, 2);
  quantize("rtn", {});
  const double blind = divergence();
  quantize("gptq", text(24, 60));
  EXPECT_LT(divergence(), 0.8 * blind);
  const auto packed = open_model(folder_.file("out.pith"));
  int experts = 0;
  for (const auto& l : packed->manifest()->linears()) {
    if (l.name().find("router") != std::string::npos) {
      EXPECT_EQ(l.method(), "kept");
    }
    if (l.name().find("experts") == std::string::npos) continue;
    EXPECT_TRUE(l.method().starts_with("gptq")) << l.name() << ": " << l.method();
    ++experts;
  }
  EXPECT_EQ(experts, 2 * 4 * 3);
}

// As they lie in a checkpoint of gpt-oss, in either form.
TEST_F(Moe, keeps_experts_in_mxfp4_number_for_number) {
  test::write_tiny_checkpoint(
      folder_.file("in"),
      read_text_file(test::fixture("golden/arch/gpt_oss/config.json"), 1 << 20));
  source_ = open_model(folder_.file("in"));
  Passes passes;
  passes.push_back(make_quantize_pass({.linears = encoding_for_type("w8"),
                                       .method = {},
                                       .ignore = {"*experts*"},
                                       .overrides = {}}));
  compress(*source_, passes, {.output = folder_.file("out.pith"), .calibration = {}});
  const auto packed = open_model(folder_.file("out.pith"));
  int experts = 0;
  for (const auto& info : linears_of(source_->spec())) {
    if (info.expert < 0) continue;
    ++experts;
    EXPECT_EQ(packed->form(info), plain_form(Encoding::mxfp4())) << info.name;
    const auto values = [&](const ModelSource& source) {
      std::vector<float> out(static_cast<size_t>(info.n * info.k));
      source.rows(info, 0, info.n, out.data());
      const auto bias = source.bias(info);
      out.insert(out.end(), bias.begin(), bias.end());
      return out;
    };
    EXPECT_EQ(values(*packed), values(*source_)) << info.name;
  }
  EXPECT_EQ(experts, 3 * 6 * 3);
}

TEST_F(Moe, gives_the_same_bytes_for_any_number_of_threads) {
  open(4, 2);
  std::string expected;
  for (const int threads : {1, 3}) {
    set_threads(threads);
    quantize("gptq", text(10, 30));
    const std::string bytes = read_text_file(folder_.file("out.pith"), 1 << 26);
    if (expected.empty()) expected = bytes;
    EXPECT_TRUE(bytes == expected) << threads;
  }
}

TEST_F(Moe, says_which_experts_no_token_came_to) {
  open(24, 1);
  EXPECT_PITH_ERROR(quantize("gptq", text(1, 10)), ErrorKind::kNumeric,
                    "no token of the calibration text came to it");
  const CompressReport report = quantize("gptq", text(1, 10), 1000);
  EXPECT_GE(report.fallbacks.size(), 2u * (24 - 10));
  EXPECT_TRUE(std::isfinite(divergence()));
}

TEST_F(Moe, is_refused_by_methods_that_do_not_know_it) {
  open(4, 2);
  for (const char* method : {"awq", "smoothquant", "awq+gptq"}) {
    EXPECT_PITH_ERROR(quantize(method, text(4, 20)), ErrorKind::kUnsupported, "does not take MoE");
  }
}

// A head's inputs are its part of the queries, then what it made of the vectors that keys and
// values are made of: over all heads, those of the whole.
TEST_F(Moe, gives_each_head_of_latent_attention_the_statistics_of_its_own_inputs) {
  open(test::tiny_latent_config(kSizes));
  const auto executor = make_cpu_executor();
  CalibrationStates states(*executor, source_->spec(),
                           source_->linear(linears_of(source_->spec()).front()), text(5, 30));
  const Block block = load_block(*source_, 0);
  Calibration calibration(*executor, states, nullptr, {});
  calibration.begin(block, block);
  std::vector<LinearRole> roles;
  int heads = 0;
  double keys = 0, output = 0;
  for (const auto& stage : stages_of(source_->spec(), 0)) {
    if (stage.sublayer != 0) continue;
    const LinearInfo& first = stage.linears.front();
    const auto s = calibration.inputs(stage, {.mean_square = true, .gram = true});
    EXPECT_EQ(s.tokens, 150) << first.name;
    EXPECT_EQ(std::ssize(s.mean_square), first.k);
    EXPECT_NEAR(s.gram[0], s.mean_square[0], 1e-5 * s.mean_square[0]);
    if (roles.empty() || roles.back() != first.role) roles.push_back(first.role);
    if (first.head >= 0) {
      EXPECT_EQ(stage.linears.size(), 1u);
      EXPECT_EQ(first.head, heads++ % 4);
      if (first.role == LinearRole::kKeyUp) keys += s.mean_square[3];
    } else if (first.role == LinearRole::kQueryDown) {
      EXPECT_EQ(stage.linears.size(), 2u);
    } else if (first.role == LinearRole::kOutput) {
      output = s.mean_square[0];
    }
  }
  EXPECT_EQ(roles, (std::vector{LinearRole::kQueryDown, LinearRole::kQuery, LinearRole::kKeyUp,
                                LinearRole::kValueUp, LinearRole::kOutput}));
  EXPECT_EQ(heads, 2 * 4);
  EXPECT_GT(keys, 0);
  EXPECT_GT(output, 0);
}

TEST_F(Moe, with_latent_attention_is_quantized_head_by_head) {
  open(test::tiny_latent_config(kSizes));
  quantize("rtn", {});
  const double blind = divergence();
  quantize("gptq", text(24, 60));
  EXPECT_LT(divergence(), 0.8 * blind);
  const auto packed = open_model(folder_.file("out.pith"));
  int heads = 0, shared = 0;
  for (const auto& l : packed->manifest()->linears()) {
    if (l.name().find("heads.") == std::string::npos &&
        l.name().find("shared.") == std::string::npos)
      continue;
    EXPECT_TRUE(l.method().starts_with("gptq")) << l.name() << ": " << l.method();
    ++(l.name().find("heads.") == std::string::npos ? shared : heads);
  }
  EXPECT_EQ(heads, 2 * 2 * 4);
  EXPECT_EQ(shared, 3);
  EXPECT_PITH_ERROR(quantize("awq", text(4, 20)), ErrorKind::kUnsupported, "latent attention");
}

}  // namespace
}  // namespace pith
