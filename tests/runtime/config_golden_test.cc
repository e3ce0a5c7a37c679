// Variants of every family's config.json, as people write them and as transformers 4 and 5 save
// them, against what transformers makes of them (tests/golden/make_config_goldens.py). Every key is
// there, left out and null in turn, and RoPE in every layout. PITH_CONFIG_GOLDENS names a larger
// file of the same kind.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "core/error.h"
#include "core/json.h"
#include "runtime/cpu/cpu_executor.h"
#include "runtime/eval/evaluate.h"
#include "runtime/forward/forward.h"
#include "runtime/model/source.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

constexpr int kTokens = 48, kVocab = 96, kShown = 24;

std::vector<int32_t> golden_tokens() {
  std::vector<int32_t> tokens;
  for (int j = 0; j < kTokens; ++j) tokens.push_back((7 * j * j + 3 * j + 5) % kVocab);
  return tokens;
}

// The mean negative log likelihood of every token behind the first.
double mean_nll(const std::vector<float>& logits, const std::vector<int32_t>& tokens) {
  double sum = 0;
  for (size_t t = 0; t + 1 < tokens.size(); ++t) {
    const float* const row = logits.data() + t * kVocab;
    const double largest = static_cast<double>(*std::max_element(row, row + kVocab));
    double total = 0;
    for (int i = 0; i < kVocab; ++i) total += std::exp(static_cast<double>(row[i]) - largest);
    sum += largest + std::log(total) - static_cast<double>(row[tokens[t + 1]]);
  }
  return sum / static_cast<double>(tokens.size() - 1);
}

TEST(ConfigGolden, every_variant_means_what_transformers_makes_of_it) {
  const char* const larger = std::getenv("PITH_CONFIG_GOLDENS");
  const Json goldens = parse_json(
      read_text_file(larger ? larger : test::fixture("golden/configs.json"), 1 << 27), "goldens");
  const auto tokens = golden_tokens();
  const auto executor = make_cpu_executor();
  int compared = 0, refused = 0;
  double worst = 0;
  for (const Json& c : goldens["cases"]) {
    const std::string name = c["name"];
    SCOPED_TRACE(name);
    Json config = goldens["families"][c["family"].get<std::string>()];
    for (const Json& key : c["drop"]) config.erase(key.get<std::string>());
    for (const auto& [key, value] : c["set"].items()) config[key] = value;
    if (compared % 2 == 0 && config.value("model_type", "") == "gpt_oss")
      config["quantization_config"] = {{"quant_method", "mxfp4"}};  // as published, or as saved
    const bool is_refused = c.contains("refused");
    std::vector<test::TinyTensor> tensors;
    if (!is_refused) {
      for (const Json& i : goldens["lists"][c["tensors"].get<size_t>()]) {
        const Json& t = goldens["tensors"][i.get<size_t>()];
        tensors.push_back({t[0], t[1]});
      }
    } else {
      tensors.push_back({"x", {1}});  // refused before a tensor is looked for
    }
    const test::TemporaryFolder folder;
    test::write_tiny_checkpoint(folder.path(), config.dump(), tensors);
    if (is_refused) {
      try {
        open_model(folder.path());
        ADD_FAILURE() << "is taken";
      } catch (const Error& e) {
        const std::string what = e.what();
        if (what.find("config.json") == what.npos) ADD_FAILURE() << "tolerated: " << what;
        ++refused;
      }
      continue;
    }
    try {
      const auto source = open_model(folder.path());
      const auto logits = window_logits(*executor, load_model(*source), {tokens, 0});
      const double nll = c["nll"];
      const double off = std::fabs(mean_nll(logits, tokens) - nll) / std::max(1.0, nll);
      EXPECT_LT(off, 1e-4) << "nll " << nll;
      worst = std::max(worst, off);
      double largest = 1;
      for (const Json& v : c["logits"]) largest = std::max(largest, std::fabs(v.get<double>()));
      for (size_t i = 0; i < c["logits"].size(); ++i) {
        const double got = static_cast<double>(logits[(kTokens - 1) * kVocab + i * kShown]);
        EXPECT_NEAR(got, c["logits"][i].get<double>(), 1e-4 * largest);
      }
      ++compared;
    } catch (const Error& e) {
      ADD_FAILURE() << e.what();
    }
  }
  std::cout << compared << " compared, the worst " << worst << " off; " << refused << " refused\n";
}

}  // namespace
}  // namespace pith
