// A resumed compression mixed two models, because its fingerprint lacked the model's description.

#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "core/bytes.h"
#include "core/error.h"
#include "quant/quantize_pass.h"
#include "quant/rotate.h"
#include "runtime/compress/driver.h"
#include "runtime/compress/fingerprint.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/stop_after.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

class FingerprintOf : public testing::Test {
 protected:
  FingerprintOf() { write(config_); }
  void write(const std::string& config) {
    if (!file_exists(folder_.file("in/model.safetensors")))
      test::write_tiny_checkpoint(folder_.file("in"), config, DType::kF16);
    write_file(folder_.file("in/config.json"), as_bytes(config));
  }
  Fingerprint now() const {
    const auto source = open_model(folder_.file("in"));
    return of(*source);
  }
  Fingerprint of(const ModelSource& source) const {
    Passes passes;
    passes.push_back(make_quantize_pass(settings_));
    return fingerprint_of(source, passes, options_);
  }

  test::UnsyncedSyscalls unsynced_;
  ScopedSyscalls scope_{unsynced_};
  test::TemporaryFolder folder_;
  std::string config_ = test::tiny_config({.layers = 2});
  QuantizeSettings settings_{.linears = encoding_for_type("w4"),
                             .method = parse_method("smoothquant+gptq")};
  CompressOptions options_{.output = "out", .calibration = {{1, 2, 3}, {4, 5}}};
};

TEST_F(FingerprintOf, changes_with_each_single_input) {
  std::set<Fingerprint> seen = {now()};
  EXPECT_EQ(now(), *seen.begin());
  const auto expect_new = [&](const char* what) { EXPECT_TRUE(seen.insert(now()).second) << what; };

  // The model: its configuration, though no tensor changed.
  const Json config = parse_json(config_, "config");
  const struct {
    const char* key;
    Json value;
  } changes[] = {{"rope_theta", 100.0},
                 {"rms_norm_eps", 0.125},
                 {"max_position_embeddings", 48},
                 {"bos_token_id", 7},
                 {"eos_token_id", 8}};
  for (const auto& c : changes) {
    Json changed = config;
    changed[c.key] = c.value;
    write(changed.dump());
    expect_new(c.key);
  }
  write(config_);

  // The settings.
  const std::pair<const char*, std::function<void(QuantizeSettings&)>> settings[] = {
      {"linears", [](auto& s) { s.linears = encoding_for_type("w3"); }},
      {"scales", [](auto& s) { s.linears.scale = DType::kBF16; }},
      {"embedding", [](auto& s) { s.embedding = encoding_for_type("w6"); }},
      {"head", [](auto& s) { s.head = encoding_for_type("w6"); }},
      {"method", [](auto& s) { s.method = parse_method("gptq"); }},
      {"smooth alpha", [](auto& s) { s.smooth_alpha = 0.25; }},
      {"inputs", [](auto& s) { s.input = input_for_type("w8a8"); }},
      {"damping", [](auto& s) { s.gptq.damping = 0.2; }},
      {"shrink", [](auto& s) { s.gptq.shrink = 0.1; }},
      {"order", [](auto& s) { s.gptq.order = false; }},
      {"search", [](auto& s) { s.gptq.search = false; }},
      {"static groups", [](auto& s) { s.gptq.static_groups = true; }},
      {"refine", [](auto& s) { s.gptq.refine = 1; }},
      {"correct inputs", [](auto& s) { s.gptq.correct_inputs = 0.5; }},
      {"ignore", [](auto& s) { s.ignore = {"down"}; }},
      {"tensor_type", [](auto& s) {
         s.overrides = {{"down", encoding_for_type("w8")}};
       }}};
  const QuantizeSettings before = settings_;
  for (const auto& [what, change] : settings) {
    change(settings_);
    expect_new(what);
    settings_ = before;
  }

  // The options.
  const std::pair<const char*, std::function<void(CompressOptions&)>> options[] = {
      {"seed", [](auto& o) { o.seed = 1; }},
      {"sequential", [](auto& o) { o.sequential = false; }},
      {"propagate", [](auto& o) { o.propagate = false; }},
      {"a token", [](auto& o) { o.calibration[1][0] = 6; }},
      {"where windows end",
       [](auto& o) {
         o.calibration = {{1, 2}, {3, 4, 5}};
       }},
      {"the text", [](auto& o) { o.calibration_hash = 1; }},
      {"domains of windows",
       [](auto& o) {
         o.domain = {0, 1};
       }},
      {"a source", [](auto& o) { o.sources = {{.name = "a.txt", .weight = 2}}; }},
      {"no text", [](auto& o) { o.calibration.clear(); }}};
  const CompressOptions old = options_;
  for (const auto& [what, change] : options) {
    change(options_);
    expect_new(what);
    options_ = old;
  }

  // The tokenizer, the rotation, and the weights.
  std::filesystem::copy_file(test::fixture("golden/tokenizers/llama2_style.json"),
                             folder_.file("in/tokenizer.json"));
  expect_new("tokenizer");
  const auto source = open_model(folder_.file("in"));
  for (const uint64_t seed : {1, 2})
    EXPECT_TRUE(seen.insert(of(*rotate_model(*source, {.seed = seed}))).second) << "rotation";
  std::filesystem::remove(folder_.file("in/model.safetensors"));
  write(config_);
  expect_new("weights");
}

TEST_F(FingerprintOf, does_not_change_with_where_the_result_goes) {
  const Fingerprint before = now();
  options_.output = "elsewhere";
  options_.memory = 1;
  options_.max_fallbacks = 3;
  EXPECT_EQ(now(), before);
}

TEST_F(FingerprintOf, of_a_changed_configuration_refuses_to_go_on_and_says_why) {
  settings_ = {.linears = encoding_for_type("w4")};
  options_.output = folder_.file("out.pith");
  const auto compress_now = [&](Progress& progress) {
    const auto source = open_model(folder_.file("in"));
    Passes passes;
    passes.push_back(make_quantize_pass(settings_));
    return compress(*source, passes, options_, progress);
  };
  test::StopAfter stop(3);
  EXPECT_PITH_ERROR(compress_now(stop), ErrorKind::kCancelled, "enough");
  Json changed = parse_json(config_, "config");
  changed["rope_theta"] = 100.0;
  write(changed.dump());
  EXPECT_PITH_ERROR(compress_now(no_progress()), ErrorKind::kUsage,
                    "finished parts of an earlier run with other settings (another configuration; "
                    "another model description)");
  settings_.linears = encoding_for_type("w8");
  EXPECT_PITH_ERROR(compress_now(no_progress()), ErrorKind::kUsage,
                    "type: int4-g64-asym then, int8-g64 now");
  write(config_);
  settings_.linears = encoding_for_type("w4");
  EXPECT_EQ(compress_now(no_progress()).resumed_units, 3);
}

// Behind a rotation the calibration had the name of a second pass, so that a run whose text was not
// written yet could not go on: it compares everything but the calibration then.
TEST_F(FingerprintOf, names_the_calibration_the_same_behind_a_rotation) {
  const auto source = open_model(folder_.file("in"));
  const auto rotated = rotate_model(*source, {.seed = 2});
  options_.sources = {{.name = "self", .written = true}};
  EXPECT_TRUE(of(*source).contains("calibration"));
  EXPECT_TRUE(of(*rotated).contains("calibration"));
}

}  // namespace
}  // namespace pith
