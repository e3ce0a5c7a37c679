// Real models against figures of independent implementations.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "core/json.h"
#include "formats/tokenizer/tokenizer.h"
#include "runtime/cpu/cpu_executor.h"
#include "runtime/eval/evaluate.h"
#include "runtime/model/source.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

double paragraph_perplexity(const std::string& model_path, const std::string& tokenizer_path,
                            const std::string& text_path, int64_t* tokens) {
  const auto source = open_model(model_path, tokenizer_path);
  const Model model = load_model(*source);
  const auto tokenizer = make_tokenizer(source->tokenizer());
  const auto executor = make_cpu_executor();
  const auto windows =
      make_windows(parse_protocol("paragraph-512", static_cast<int64_t>(model.spec.context())),
                   *tokenizer, read_text_file(text_path, 1 << 24), model.spec.bos_token());
  const auto r = evaluate_perplexity(*executor, model, windows);
  *tokens = r.tokens;
  return r.perplexity;
}

TEST(Golden, tinystories_656K_perplexity) {
  PITH_SHARED_OR_SKIP(text, "text/TinyStories-valid-30k.txt");
  for (const char* name : {"tinystories-656K/fp32", "tinystories-656K/bf16"}) {
    PITH_SHARED_OR_SKIP(model, name);
    int64_t tokens = 0;
    EXPECT_NEAR(paragraph_perplexity(model, "", text, &tokens), 30.885, 30.885e-3) << name;
    EXPECT_EQ(tokens, 7938);
  }
}

TEST(Golden, stories260K_perplexity) {
  PITH_SHARED_OR_SKIP(text, "text/TinyStories-valid-30k.txt");
  PITH_SHARED_OR_SKIP(model, "stories260K/stories260K.bin");
  PITH_SHARED_OR_SKIP(tokenizer, "stories260K/tok512.bin");
  int64_t tokens = 0;
  EXPECT_NEAR(paragraph_perplexity(model, tokenizer, text, &tokens), 5.633, 5.633e-3);
  EXPECT_EQ(tokens, 15507);
}

// Needs the model file: PITH_SMOLLM2 names it (tools/demo.sh fetches it).
TEST(Golden, smollm2_logits) {
  const char* path = std::getenv("PITH_SMOLLM2");
  if (path == nullptr || *path == 0)
    GTEST_SKIP() << "PITH_SMOLLM2 does not name SmolLM2-135M-Instruct.Q4_1.gguf";
  const Json golden = parse_json(
      read_text_file(test::fixture("golden/smollm2/logits.json"), 1 << 20), "logits.json");
  const auto source = open_model(path);
  const Model model = load_model(*source);
  const auto tokenizer = make_tokenizer(source->tokenizer());
  const std::vector<int32_t> tokens = golden["tokens"];
  EXPECT_EQ(tokenizer->encode(golden["text"].get<std::string>(), {.add_special = false}), tokens);
  const auto executor = make_cpu_executor();
  const auto logits = window_logits(*executor, model, {tokens, 0});
  const auto vocab = static_cast<size_t>(model.spec.vocab());
  double worst = 0;
  for (const auto& p : golden["positions"]) {
    const float* row = logits.data() + p["position"].get<size_t>() * vocab;
    for (const auto& top : p["top"]) {
      worst = std::max(
          worst, std::fabs(top[1].get<double>() - static_cast<double>(row[top[0].get<size_t>()])));
    }
  }
  RecordProperty("worst_logit_difference", fmt::format("{:.2e}", worst));
  EXPECT_LT(worst, 2e-3);
  const auto r = evaluate_perplexity(*executor, model, {Window{tokens, 0}});
  EXPECT_NEAR(r.nll, golden["average_nll"].get<double>(), 1e-5);
}

}  // namespace
}  // namespace pith
