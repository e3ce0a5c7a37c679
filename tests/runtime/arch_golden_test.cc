// Tiny models of every family against the logits of transformers in float64
// (tests/golden/make_arch_goldens.py). Weights follow a formula (tests/support/tiny_model.h).

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "core/bytes.h"
#include "core/json.h"
#include "formats/safetensors.h"
#include "runtime/cpu/cpu_executor.h"
#include "runtime/eval/evaluate.h"
#include "runtime/forward/forward.h"
#include "runtime/model/source.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& e : std::filesystem::directory_iterator(test::fixture("golden/arch")))
    names.push_back(e.path().filename());
  std::ranges::sort(names);
  return names;
}

struct Golden {
  std::vector<int32_t> tokens;
  int64_t first_position;
  std::vector<std::vector<double>> logits;
};

Golden read_golden(const std::string& folder) {
  const Json j = parse_json(read_text_file(folder + "/logits.json", 1 << 20), "logits.json");
  return {j["tokens"], j["first_position"], j["logits"]};
}

class ArchGolden : public testing::TestWithParam<std::string> {};

TEST_P(ArchGolden, logits_equal_transformers) {
  const std::string folder = test::fixture("golden/arch/" + GetParam());
  const Golden golden = read_golden(folder);
  const test::TemporaryFolder temporary;
  test::write_tiny_checkpoint(temporary.path(), read_text_file(folder + "/config.json", 1 << 20),
                              DType::kF32);
  const auto source = open_model(temporary.path());
  const Model model = load_model(*source);
  const auto executor = make_cpu_executor();
  const auto logits = window_logits(*executor, model, {golden.tokens, golden.first_position});
  double worst = 0, largest = 0;
  size_t i = 0;
  for (const auto& row : golden.logits) {
    for (const double v : row) {
      worst = std::max(worst, std::fabs(v - static_cast<double>(logits.at(i++))));
      largest = std::max(largest, std::fabs(v));
    }
  }
  EXPECT_EQ(i, logits.size());
  EXPECT_LT(worst, 2e-5 * largest) << "largest logit " << largest;
}

// The same tokens one by one through the cache, and two sequences in one batch, give the logits of
// one pass. Families whose rotation depends on the length of the sequence are left out: there, by
// definition, they do not.
TEST_P(ArchGolden, decoding_equals_prefill) {
  const std::string folder = test::fixture("golden/arch/" + GetParam());
  const Golden golden = read_golden(folder);
  const test::TemporaryFolder temporary;
  test::write_tiny_checkpoint(temporary.path(), read_text_file(folder + "/config.json", 1 << 20),
                              DType::kF32);
  const auto source = open_model(temporary.path());
  const Model model = load_model(*source);
  const auto scaling = model.spec.layers(0).sublayers(0).attention().rope().scaling();
  if (scaling == proto::ROPE_DYNAMIC || scaling == proto::ROPE_LONGROPE)
    GTEST_SKIP() << "rotation depends on the length";
  const auto executor = make_cpu_executor();
  const auto expected = window_logits(*executor, model, {golden.tokens, golden.first_position});
  const auto n = static_cast<int64_t>(golden.tokens.size());
  const auto cache = executor->make_cache(model.spec, {2, n, NumberFormat::kF32});
  size_t at = 0;
  for (int64_t t = 0; t < n; ++t) {
    const int32_t id = golden.tokens[static_cast<size_t>(t)];
    const int32_t both[] = {golden.tokens[static_cast<size_t>(n - 1 - t)], id};
    const Segment segments[] = {{0, t, 1}, {1, t, 1}};
    const Tensor hidden = forward_hidden(*executor, model, {both, segments}, *cache);
    if (t < golden.first_position) continue;
    const int64_t last = 1;
    const Tensor l = forward_head(*executor, model, hidden, std::span(&last, 1));
    for (int64_t i = 0; i < l.n; ++i, ++at)
      ASSERT_NEAR(executor->view(l).data[i], expected[at], 1e-4) << "token " << t;
  }
}

// Checkpoints with images name their parts.
TEST(Gemma3, is_found_in_a_checkpoint_with_images) {
  const std::string folder = test::fixture("golden/arch/gemma3");
  const Json text = parse_json(read_text_file(folder + "/config.json", 1 << 20), "config.json");
  const Golden golden = read_golden(folder);
  for (const std::string prefix : {"language_model.model.", "model.language_model."}) {
    const test::TemporaryFolder temporary;
    Json config = {{"model_type", "gemma3"}, {"text_config", text}, {"eos_token_id", {1u, 2u}}};
    config["text_config"].erase("eos_token_id");
    write_file(temporary.file("config.json"), as_bytes(config.dump()));
    std::vector<std::vector<float>> weights;
    std::vector<TensorData> tensors;
    for (auto& t : test::tiny_tensors(text)) {
      weights.push_back(test::tiny_weights(t));
      const std::string name = prefix + t.name.substr(std::string("model.").size());
      tensors.push_back({name, DType::kF32, t.shape, std::as_bytes(std::span(weights.back()))});
    }
    write_safetensors(temporary.file("model.safetensors"), std::move(tensors), {});
    const auto source = open_model(temporary.path());
    EXPECT_EQ(source->spec().stop_tokens_size(), 2);
    const auto logits = window_logits(*make_cpu_executor(), load_model(*source),
                                      {golden.tokens, golden.first_position});
    size_t i = 0;
    for (const auto& row : golden.logits) {
      for (const double v : row) ASSERT_NEAR(static_cast<double>(logits.at(i++)), v, 1e-3);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, ArchGolden, testing::ValuesIn(golden_names()),
                         [](const auto& i) { return i.param; });

}  // namespace
}  // namespace pith
