// Numeric hazards of whole models: what happens, by name.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/file.h"
#include "core/parallel.h"
#include "quant/quantize_pass.h"
#include "runtime/compress/driver.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

class Numeric : public testing::Test {
 protected:
  // Quantizes a tiny model in which `tensor` was changed.
  CompressReport quantize(const std::string& tensor,
                          const std::function<void(std::vector<float>&)>& change,
                          const std::string& type = "w4", const char* method = "rtn",
                          const std::vector<std::string>& ignore = {},
                          const test::TinySizes& sizes = {}) {
    test::write_tiny_checkpoint(folder_.file("in"), test::tiny_config(sizes), DType::kF32,
                                [&](const std::string& name, std::vector<float>& w) {
                                  if (name == tensor) change(w);
                                });
    const auto source = open_model(folder_.file("in"));
    QuantizeSettings settings{.linears = encoding_for_type(type),
                              .method = parse_method(method),
                              .ignore = ignore,
                              .overrides = {}};
    settings.embedding = settings.head = settings.linears;
    Passes passes;
    passes.push_back(make_quantize_pass(settings));
    return compress(*source, passes, {.output = output(), .calibration = {}});
  }
  std::string output() const { return folder_.file("out.pith"); }
  void expect_no_output() const {
    EXPECT_FALSE(file_exists(output()));
    EXPECT_FALSE(file_exists(output() + ".work"));
  }

  test::UnsyncedSyscalls unsynced_;
  ScopedSyscalls scope_{unsynced_};
  test::TemporaryFolder folder_;
};

TEST_F(Numeric, a_weight_that_is_not_a_number_is_named) {
  for (const char* method : {"minmax", "rtn"}) {
    EXPECT_PITH_ERROR(quantize(
                          "model.layers.1.mlp.down_proj.weight",
                          [](auto& w) { w[3 * 112 + 17] = kNan; }, "w4", method),
                      ErrorKind::kNumeric, "layers.1.mlp.down: weight [3, 17] is nan");
    expect_no_output();
  }
}

TEST_F(Numeric, an_infinite_weight_is_named) {
  for (const char* type : {"w8", "nf4", "fp8", "f16"}) {
    EXPECT_PITH_ERROR(quantize(
                          "model.layers.2.self_attn.k_proj.weight",
                          [](auto& w) { w[64 + 5] = -kInfinity; }, type),
                      ErrorKind::kNumeric, "layers.2.attention.k: weight [1, 5] is -inf");
    expect_no_output();
  }
}

TEST_F(Numeric, a_bad_weight_in_a_layer_that_is_kept_is_named) {
  EXPECT_PITH_ERROR(quantize("model.layers.0.self_attn.q_proj.weight",
                             [](auto& w) { w[2 * 64 + 63] = kNan; }, "w4", "rtn", {"q"}),
                    ErrorKind::kNumeric, "layers.0.attention.q: weight [2, 63] is nan");
  expect_no_output();
}

TEST_F(Numeric, a_bad_weight_far_down_a_streamed_table_is_named_by_its_row) {
  const test::TinySizes sizes{.hidden = 256, .ffn = 64, .layers = 1, .vocab = 5000};
  for (const int threads : {1, 2}) {
    set_threads(threads);
    EXPECT_PITH_ERROR(quantize(
                          "model.embed_tokens.weight", [](auto& w) { w[4321 * 256 + 7] = kNan; },
                          "w8", "rtn", {}, sizes),
                      ErrorKind::kNumeric, "embedding: weight [4321, 7] is nan");
    EXPECT_PITH_ERROR(quantize(
                          "lm_head.weight", [](auto& w) { w[4999 * 256 + 255] = kInfinity; }, "w8",
                          "rtn", {}, sizes),
                      ErrorKind::kNumeric, "head: weight [4999, 255] is inf");
    expect_no_output();
  }
  set_threads(0);
}

TEST_F(Numeric, a_norm_that_is_not_finite_is_named) {
  EXPECT_PITH_ERROR(quantize("model.layers.1.input_layernorm.weight", [](auto& w) { w[3] = kNan; }),
                    ErrorKind::kNumeric, "layers.1.attention.norm: nan in the source");
  EXPECT_PITH_ERROR(quantize("model.norm.weight", [](auto& w) { w[0] = kInfinity; }),
                    ErrorKind::kNumeric, "final_norm: inf in the source");
  expect_no_output();
}

TEST_F(Numeric, a_scale_beyond_f16_is_refused_and_bf16_scales_are_the_remedy) {
  const auto huge = [](std::vector<float>& w) { w[5 * 64] = 1e7f; };
  for (const char* method : {"minmax", "rtn"}) {
    EXPECT_PITH_ERROR(quantize("model.layers.0.mlp.up_proj.weight", huge, "w4", method),
                      ErrorKind::kNumeric, "layers.0.mlp.up: row 5: a scale of");
    EXPECT_PITH_ERROR(quantize("model.layers.0.mlp.up_proj.weight", huge, "w4", method),
                      ErrorKind::kNumeric, "bf16 scales would");
    expect_no_output();
    EXPECT_NO_THROW(quantize("model.layers.0.mlp.up_proj.weight", huge, "int4-g64-bf16", method))
        << method;
    remove_file(output());
  }
}

TEST_F(Numeric, huge_weights_keep_their_relative_error_until_they_cannot_be_squared) {
  for (const char* method : {"minmax", "rtn"}) {
    const auto times = [](float factor) {
      return [factor](std::vector<float>& w) {
        for (float& x : w) x *= factor;
      };
    };
    const double plain =
        quantize("model.layers.0.mlp.up_proj.weight", times(1), "int4-g64-bf16", method)
            .worst_error;
    const double large =
        quantize("model.layers.0.mlp.up_proj.weight", times(0x1p50f), "int4-g64-bf16", method)
            .worst_error;
    EXPECT_NEAR(large, plain, 1e-9) << method;
    remove_file(output());
    EXPECT_PITH_ERROR(
        quantize("model.layers.0.mlp.up_proj.weight", times(0x1p100f), "int4-g64-bf16", method),
        ErrorKind::kNumeric, "layers.0.mlp.up: weights in the rows from 0 on are too large");
    expect_no_output();
  }
}

TEST_F(Numeric, weights_beyond_f16_do_not_become_infinite_in_silence) {
  EXPECT_PITH_ERROR(quantize(
                        "model.layers.0.mlp.up_proj.weight", [](auto& w) { w[9] = 1e5f; }, "f16"),
                    ErrorKind::kNumeric, "layers.0.mlp.up: the compressed weights are not finite");
  expect_no_output();
}

TEST_F(Numeric, a_layer_of_zeros_and_a_constant_row_are_ordinary_weights) {
  EXPECT_NO_THROW(
      quantize("model.layers.0.mlp.up_proj.weight", [](auto& w) { std::ranges::fill(w, 0.0f); }));
  const auto source = open_model(output());
  for (const auto& info : linears_of(source->spec())) {
    if (info.name != "layers.0.mlp.up") continue;
    std::vector<float> w(static_cast<size_t>(info.n * info.k), 1.0f);
    source->rows(info, 0, info.n, w.data());
    for (const float x : w) ASSERT_EQ(x, 0);
  }
  EXPECT_NO_THROW(quantize("model.layers.0.mlp.up_proj.weight",
                           [](auto& w) { std::fill(w.begin() + 64, w.begin() + 128, 0.25f); }));
}

TEST_F(Numeric, subnormal_weights_become_zeros_and_a_matrix_of_nothing_else_is_refused) {
  for (const char* type : {"w4", "int4-g64-bf16", "nf4", "fp8", "int4-g32-s8"}) {
    const char* o = "model.layers.1.self_attn.o_proj.weight";
    const int64_t half = 32 * 64;
    EXPECT_NO_THROW(quantize(
        o,
        [](auto& w) {
          for (int64_t i = 0; i < half; ++i) w[static_cast<size_t>(i)] *= 1e-39f;
        },
        type))
        << type;
    const auto source = open_model(output());
    for (const auto& info : linears_of(source->spec())) {
      if (info.name != "layers.1.attention.o") continue;
      std::vector<float> w(static_cast<size_t>(info.n * info.k));
      source->rows(info, 0, info.n, w.data());
      for (int64_t i = 0; i < half; ++i) ASSERT_EQ(w[static_cast<size_t>(i)], 0) << type;
    }
    EXPECT_PITH_ERROR(quantize(
                          o,
                          [](auto& w) {
                            for (float& x : w) x *= 1e-39f;
                          },
                          type),
                      ErrorKind::kNumeric,
                      "layers.1.attention.o: all of it would be rounded to zeros");
  }
}

TEST_F(Numeric, inputs_that_overflow_during_calibration_are_named) {
  test::write_tiny_checkpoint(folder_.file("in"), test::tiny_config({}), DType::kF32,
                              [&](const std::string& name, std::vector<float>& w) {
                                if (name != "model.layers.0.mlp.up_proj.weight" &&
                                    name != "model.layers.0.mlp.gate_proj.weight")
                                  return;
                                for (float& x : w) x *= 3e19f;
                              });
  const auto source = open_model(folder_.file("in"));
  Passes passes;
  passes.push_back(make_quantize_pass(
      {.linears = encoding_for_type("int4-g64-bf16"), .ignore = {}, .overrides = {}}));
  CompressOptions options{.output = output(), .calibration = {{1, 5, 9, 33, 2, 7, 8, 90}}};
  EXPECT_PITH_ERROR(compress(*source, passes, options), ErrorKind::kNumeric,
                    "not finite on the calibration text");
  expect_no_output();
}

}  // namespace
}  // namespace pith
