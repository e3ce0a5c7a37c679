// Quantizing a model: the same bytes whatever the threads, the processor and the interruptions, and
// patterns that say which layer gets which type.

#include "quant/quantize_pass.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "runtime/compress/driver.h"
#include "runtime/cpu/kernels.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/process.h"
#include "tests/support/stop_after.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

std::vector<std::vector<int32_t>> some_windows(int count, int length, uint64_t vocab) {
  Rng rng(3);
  std::vector<std::vector<int32_t>> out;
  for (int i = 0; i < count; ++i) {
    auto& w = out.emplace_back();
    for (int t = 0; t < length; ++t) w.push_back(static_cast<int32_t>(rng.next() % vocab));
  }
  return out;
}

class Quantize : public testing::Test {
 protected:
  Quantize() {
    test::write_tiny_checkpoint(folder_.file("in"),
                                test::tiny_config({.hidden = 128, .ffn = 208, .vocab = 301}),
                                DType::kBF16);
    source_ = open_model(folder_.file("in"));
  }
  ~Quantize() override { set_threads(0); }

  static Passes passes(const std::string& type, const std::string& method) {
    Passes p;
    p.push_back(make_quantize_pass({.linears = encoding_for_type(type),
                                    .method = parse_method(method),
                                    .ignore = {},
                                    .overrides = {}}));
    return p;
  }
  std::string output() const { return folder_.file("out.pith"); }
  uint64_t bytes_of(const std::string& path) const { return hash64(read_file(path, 1 << 26)); }
  uint64_t quantize(const std::string& type, const std::string& method, bool calibrated = false,
                    Progress& progress = no_progress()) {
    CompressOptions options{.output = output(), .calibration = {}};
    if (calibrated) options.calibration = some_windows(16, 40, source_->spec().vocab());
    compress(*source_, passes(type, method), options, progress);
    EXPECT_FALSE(file_exists(output() + ".work"));
    return bytes_of(output());
  }

  test::UnsyncedSyscalls unsynced_;
  ScopedSyscalls scope_{unsynced_};
  test::TemporaryFolder folder_;
  std::unique_ptr<ModelSource> source_;
};

constexpr const char* kTypes[] = {"w8",          "w4",          "w3",   "int2-g32-bf16",
                                  "int4-g32-s8", "int5-row",    "nf4",  "fp8",
                                  "fp8-tensor",  "fp8-128x128", "bf16", "tcq2-g64-s8"};

TEST_F(Quantize, gives_the_same_bytes_for_any_number_of_threads_and_twice) {
  for (const char* method : {"minmax", "rtn"}) {
    for (const char* type : kTypes) {
      set_threads(1);
      const uint64_t expected = quantize(type, method);
      for (const int threads : {1, 2, 3, 7}) {
        set_threads(threads);
        EXPECT_EQ(quantize(type, method), expected)
            << type << " " << method << ", " << threads << " threads";
      }
    }
  }
}

TEST_F(Quantize, gives_the_same_bytes_on_every_instruction_level) {
  const CpuKernels* const* levels;
  const int count = cpu_kernel_levels(&levels);
  for (const char* method : {"minmax", "rtn"}) {
    for (const char* type : kTypes) {
      uint64_t expected = 0;
      for (int i = 0; i < count; ++i) {
        const auto r = test::run_process({PITH_PROGRAM, "quantize", folder_.file("in"), output(),
                                          type, "--method", method, "-q", "-t", "2"},
                                         {std::string("PITH_CPU=") + levels[i]->name});
        ASSERT_EQ(r.exit_code, 0) << r.err;
        if (i == 0) expected = bytes_of(output());
        EXPECT_EQ(bytes_of(output()), expected) << type << " " << method << " " << levels[i]->name;
      }
    }
  }
}

TEST_F(Quantize, with_calibration_gives_the_same_bytes_for_any_number_of_threads) {
  const uint64_t blind = quantize("w3", "rtn");
  set_threads(1);
  const uint64_t expected = quantize("w3", "rtn", true);
  EXPECT_NE(expected, blind);
  for (const int threads : {1, 2, 3, 7}) {
    set_threads(threads);
    EXPECT_EQ(quantize("w3", "rtn", true), expected) << threads << " threads";
  }
}

TEST_F(Quantize, goes_on_after_every_unit_to_the_same_bytes) {
  for (const bool calibrated : {false, true}) {
    const uint64_t expected = quantize("w4", "rtn", calibrated);
    for (int64_t units = 0; units < source_->spec().layers_size() + 3; ++units) {
      remove_file(output());
      test::StopAfter stop(units);
      EXPECT_PITH_ERROR(quantize("w4", "rtn", calibrated, stop), ErrorKind::kCancelled, "enough");
      EXPECT_EQ(file_exists(output() + ".work"), units > 0);
      EXPECT_FALSE(file_exists(output()));
      set_threads(static_cast<int>(units % 3) + 1);
      EXPECT_EQ(quantize("w4", "rtn", calibrated), expected) << "after " << units << " units";
    }
  }
}

constexpr struct {
  const char *type, *method;
} kCalibrated[] = {{"w3", "gptq"},          {"w4", "awq"},   {"int4-row", "awq+gptq"},
                   {"w8a8", "smoothquant"}, {"nf4", "gptq"}, {"w4a8", "gptq"}};

TEST_F(Quantize, calibrated_methods_give_the_same_bytes_for_any_number_of_threads) {
  for (const auto& c : kCalibrated) {
    set_threads(1);
    const uint64_t expected = quantize(c.type, c.method, true);
    for (const int threads : {2, 3, 7}) {
      set_threads(threads);
      EXPECT_EQ(quantize(c.type, c.method, true), expected)
          << c.type << " " << c.method << ", " << threads << " threads";
    }
  }
}

TEST_F(Quantize, calibrated_methods_go_on_after_every_unit_to_the_same_bytes) {
  for (const auto& c : kCalibrated) {
    const uint64_t expected = quantize(c.type, c.method, true);
    for (int64_t units = 2; units < source_->spec().layers_size() + 3; ++units) {
      remove_file(output());
      test::StopAfter stop(units);
      EXPECT_PITH_ERROR(quantize(c.type, c.method, true, stop), ErrorKind::kCancelled, "enough");
      EXPECT_EQ(quantize(c.type, c.method, true), expected)
          << c.type << " " << c.method << " after " << units << " units";
    }
  }
}

TEST_F(Quantize, gptq_says_where_it_had_to_fall_back_and_refuses_more_of_that_than_allowed) {
  // Inputs of `down` that are not finite: silu(gate) * up beyond the largest float.
  test::write_tiny_checkpoint(folder_.file("huge"),
                              test::tiny_config({.hidden = 128, .ffn = 208, .vocab = 301}),
                              DType::kF32, [](const std::string& name, std::vector<float>& w) {
                                if (name.find("layers.2.mlp.up") == std::string::npos &&
                                    name.find("layers.2.mlp.gate") == std::string::npos)
                                  return;
                                for (float& v : w) v *= 1e19f;
                              });
  const auto source = open_model(folder_.file("huge"));
  CompressOptions options{.output = output(), .calibration = {}};
  options.calibration = some_windows(5, 40, 301);
  const auto with = [&] {
    Passes p;
    p.push_back(make_quantize_pass(
        {.linears = encoding_for_type("int4-g64-asym-bf16"), .method = parse_method("gptq")}));
    return compress(*source, p, options);
  };
  EXPECT_PITH_ERROR(with(), ErrorKind::kNumeric, "layers.2.mlp.down");
  EXPECT_FALSE(file_exists(output()));
}

TEST_F(Quantize, without_a_text_refuses_the_methods_that_need_one) {
  for (const char* method : {"gptq", "awq", "smoothquant", "awq+gptq"}) {
    EXPECT_PITH_ERROR(quantize("w3", method), ErrorKind::kUsage, "needs a calibration text");
    EXPECT_FALSE(file_exists(output())) << method;
  }
}

// Types that gptq does not round are rounded by rtn, and the file says so.
TEST_F(Quantize, records_the_method_that_was_used) {
  quantize("mxfp4", "gptq", true);
  const auto result = open_model(output());
  for (const auto& l : result->manifest()->linears())
    EXPECT_THAT(l.method(), testing::StartsWith("rtn")) << l.name();
  EXPECT_THAT(result->manifest()->provenance().recipe(), testing::HasSubstr("method: rtn"));
}

TEST_F(Quantize, gptq_records_its_loss_and_how_far_inputs_were_corrected) {
  CompressOptions options{.output = output(), .calibration = {}};
  options.calibration = some_windows(16, 40, source_->spec().vocab());
  compress(*source_, passes("w3", "gptq"), options);
  const auto result = open_model(output());
  int corrected = 0;
  for (const auto& l : result->manifest()->linears()) {
    if (l.name() == "embedding") continue;
    if (l.name() == "head") {
      EXPECT_EQ(l.method(), "gptq");
      continue;
    }
    EXPECT_THAT(l.method(), testing::HasSubstr("gptq, output error")) << l.name();
    EXPECT_EQ(l.fallback(), "");
    EXPECT_NE(l.expected_hash(), 0u);
    corrected += l.method().find("corrected") != std::string::npos;
  }
  EXPECT_GT(corrected, 0);
}

TEST_F(Quantize, refuses_to_go_on_with_other_settings) {
  test::StopAfter stop(2);
  EXPECT_PITH_ERROR(quantize("w4", "rtn", false, stop), ErrorKind::kCancelled, "");
  EXPECT_PITH_ERROR(quantize("w3", "rtn"), ErrorKind::kUsage,
                    "type: int4-g64-asym then, int3-g64-asym now");
  EXPECT_PITH_ERROR(quantize("w4", "rtn", true), ErrorKind::kUsage, "calibration");
  CompressOptions options{.output = output(), .calibration = {}};
  options.seed = 1;
  EXPECT_PITH_ERROR(compress(*source_, passes("w4", "rtn"), options), ErrorKind::kUsage, "seed");
  test::write_tiny_checkpoint(folder_.file("in"),
                              test::tiny_config({.hidden = 128, .ffn = 208, .vocab = 301}),
                              DType::kF16);
  const auto changed = open_model(folder_.file("in"));
  EXPECT_PITH_ERROR(
      compress(*changed, passes("w4", "rtn"), {.output = output(), .calibration = {}}),
      ErrorKind::kUsage, "source");
  EXPECT_NO_THROW(quantize("w4", "rtn"));  // refusals left the work as it was
}

// ---- Patterns ----

std::map<std::string, std::string> plan(const ModelSource& source,
                                        const QuantizeSettings& settings) {
  Passes p;
  p.push_back(make_quantize_pass(settings));
  std::map<std::string, std::string> out;
  for (const auto& l : plan_compression(source, p, {.output = "", .calibration = {}}).linears)
    out[l.info.name] = to_string(l.to);
  return out;
}

TEST_F(Quantize, ignores_layers_by_name_role_glob_and_expression) {
  const struct {
    std::string pattern;
    std::vector<std::string> kept;
  } cases[] = {
      {"layers.1.mlp.down", {"layers.1.mlp.down"}},
      {"down", {"layers.0.mlp.down", "layers.1.mlp.down", "layers.2.mlp.down"}},
      {"layers.2.*",
       {"layers.2.attention.q", "layers.2.attention.k", "layers.2.attention.v",
        "layers.2.attention.o", "layers.2.mlp.gate", "layers.2.mlp.up", "layers.2.mlp.down"}},
      {"layers.?.attention.k",
       {"layers.0.attention.k", "layers.1.attention.k", "layers.2.attention.k"}},
      {"re:^layers\\.[01]\\.mlp\\.(up|down)$",
       {"layers.0.mlp.up", "layers.0.mlp.down", "layers.1.mlp.up", "layers.1.mlp.down"}},
      {"re:attention.o", {"layers.0.attention.o", "layers.1.attention.o", "layers.2.attention.o"}},
      {"lm_head", {"head"}},
      {"head", {"head"}},
      {"embed_tokens", {"embedding"}},
      {"layers.1", {}},
      {"DOWN", {}},
  };
  for (const auto& c : cases) {
    const auto types = plan(
        *source_, {.linears = encoding_for_type("w4"), .ignore = {c.pattern}, .overrides = {}});
    for (const auto& [name, type] : types)
      EXPECT_EQ(type == "bf16", std::ranges::count(c.kept, name) == 1)
          << c.pattern << ": " << name << " is " << type;
  }
}

TEST_F(Quantize, gives_layers_the_type_of_the_last_pattern_that_matches) {
  const auto types = plan(*source_, {.linears = encoding_for_type("w4", 32),
                                     .embedding = encoding_for_type("f16"),
                                     .head = encoding_for_type("w6"),
                                     .ignore = {"layers.0.attention.v"},
                                     .overrides = {{"down", encoding_for_type("w8")},
                                                   {"layers.1.*", encoding_for_type("nf4")},
                                                   {"attention.v", encoding_for_type("w2")},
                                                   {"v", encoding_for_type("w5")}}});
  EXPECT_EQ(types.at("layers.0.mlp.down"), "int8-g64");
  EXPECT_EQ(types.at("layers.1.mlp.down"), "nf4-g64");
  EXPECT_EQ(types.at("layers.2.mlp.up"), "int4-g32-asym");
  EXPECT_EQ(types.at("layers.0.attention.v"), "bf16");  // ignored counts most
  EXPECT_EQ(types.at("layers.1.attention.v"), "int5-g64-asym");
  EXPECT_EQ(types.at("embedding"), "f16");
  EXPECT_EQ(types.at("head"), "int6-g64-asym");
}

TEST_F(Quantize, a_layer_that_is_ignored_keeps_its_bytes) {
  compress(*source_,
           [] {
             Passes p;
             p.push_back(make_quantize_pass({.linears = encoding_for_type("w4"),
                                             .ignore = {"q", "embed_tokens"},
                                             .overrides = {}}));
             return p;
           }(),
           {.output = output(), .calibration = {}});
  const auto result = open_model(output());
  for (const auto& info : linears_of(source_->spec())) {
    if (info.role != LinearRole::kQuery && info.role != LinearRole::kEmbedding) continue;
    const Linear a = source_->linear(info), b = result->linear(info);
    EXPECT_TRUE(std::ranges::equal(a.terms[0].w.planes[0].bytes, b.terms[0].w.planes[0].bytes))
        << info.name;
  }
}

TEST(Types, names_of_other_tools_and_of_encodings_are_known) {
  const struct {
    const char *type, *encoding;
    int64_t group;
  } cases[] = {{"w4", "int4-g64-asym", -1},
               {"W4A16", "int4-g128", -1},
               {"w4a16", "int4-g128", -1},
               {"W4A16_ASYM", "int4-g128-asym", -1},
               {"w8", "int8-g64", -1},
               {"W8A16", "int8-g128", -1},
               {"W3A16", "int3-g128", -1},
               {"INT8", "int8-row", -1},
               {"FP8", "fp8e4m3-tensor", -1},
               {"MXFP4A16", "mxfp4", -1},
               {"w2", "int2-g16-asym", 16},
               {"int8", "int8-g64", -1},
               {"nf4", "nf4-g128", 128},
               {"mxfp4", "mxfp4", -1},
               {"fp8", "fp8e4m3-row", -1},
               {"FP8_BLOCK", "fp8e4m3-128x128", -1},
               {"f16", "f16", -1},
               {"BF16", "bf16", -1},
               {"int3-row-bf16", "int3-row-bf16", -1}};
  for (const auto& c : cases)
    EXPECT_EQ(to_string(encoding_for_type(c.type, c.group)), c.encoding) << c.type;
  EXPECT_EQ(to_string(encoding_for_type("w4", -1, true)), "int4-g64");
  EXPECT_EQ(to_string(encoding_for_type("w8", -1, false)), "int8-g64-asym");
}

TEST(Types, nonsense_is_a_usage_error) {
  EXPECT_PITH_ERROR(encoding_for_type(""), ErrorKind::kUsage, "");
  EXPECT_PITH_ERROR(encoding_for_type("w7"), ErrorKind::kUsage, "7 bits");
  EXPECT_PITH_ERROR(encoding_for_type("Q4_K_M"), ErrorKind::kUsage,
                    "GGUF's types are read, not written; nearest: w4");
  EXPECT_PITH_ERROR(encoding_for_type("iq3_xxs"), ErrorKind::kUsage, "nearest: w3");
  EXPECT_PITH_ERROR(encoding_for_type("gptq"), ErrorKind::kUsage, "--method gptq");
  EXPECT_PITH_ERROR(encoding_for_type("NVFP4"), ErrorKind::kUsage, "no NVFP4");
  EXPECT_PITH_ERROR(encoding_for_type("MXFP4"), ErrorKind::kUsage, "MXFP4A16");
  EXPECT_PITH_ERROR(encoding_for_type("quatsch"), ErrorKind::kUsage, "Types: w8 w6");
  EXPECT_PITH_ERROR(encoding_for_type("int4-g33"), ErrorKind::kUsage, "33");
  EXPECT_PITH_ERROR(encoding_for_type("w4", 48), ErrorKind::kUsage, "48");
  EXPECT_PITH_ERROR(encoding_for_type("fp8", 64), ErrorKind::kUsage, "no groups");
  EXPECT_PITH_ERROR(encoding_for_type("w11"), ErrorKind::kUsage, "w11");
  EXPECT_PITH_ERROR(encoding_for_type("W4A4"), ErrorKind::kUsage, "rounded inputs");
}

TEST(Types, with_rounded_inputs_say_how_the_weights_and_the_inputs_are_stored) {
  const struct {
    const char *type, *weights, *inputs;
  } cases[] = {
      {"w8a8", "int8-row", "i8-token"},       {"w4a8", "int4-g128-s8", "i8-token"},
      {"W4A8", "int4-g128", "i8-token"},      {"FP8", "fp8e4m3-tensor", "f8e4m3-tensor"},
      {"FP8_DYNAMIC", "fp8", "f8e4m3-token"}, {"fp8_block", "fp8-128x128", "f8e4m3-block128"},
      {"w4", "int4-g64-asym", "f32"},         {"fp8", "fp8", "f32"}};
  for (const auto& c : cases) {
    EXPECT_EQ(encoding_for_type(c.type), parse_encoding(c.weights)) << c.type;
    EXPECT_EQ(to_string(input_for_type(c.type)), c.inputs) << c.type;
  }
}

}  // namespace
}  // namespace pith
