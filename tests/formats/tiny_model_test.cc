// The generator of tests' models against what the goldens recorded of theirs.

#include "tests/support/tiny_model.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "core/file.h"
#include "formats/checkpoint.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

TEST(TinyModel, repeats_the_tensors_of_every_golden) {
  const std::string folder = test::fixture("golden/arch");
  if (!is_folder(folder)) GTEST_SKIP() << "no tests/golden/arch";
  int models = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const auto read = [&](const char* name) {
      const std::string path = (entry.path() / name).string();
      return parse_json(read_text_file(path, 16 << 20), path);
    };
    std::map<std::string, test::TinyTensor> made;
    for (auto& t : test::tiny_tensors(read("config.json"))) made.emplace(t.name, t);
    const Json golden = read("logits.json");
    for (const Json& t : golden.at("tensors")) {
      const auto found = made.extract(t.at("name").get<std::string>());
      ASSERT_FALSE(found.empty()) << entry << t;
      EXPECT_EQ(found.mapped().shape, t.at("shape").get<std::vector<int64_t>>()) << entry << t;
      const auto weights = test::tiny_weights(found.mapped());
      EXPECT_NEAR(weights.front(), t.at("first").get<float>(),
                  1e-8f + 1e-6f * std::abs(weights.front()))
          << entry << t;
      EXPECT_NEAR(weights.back(), t.at("last").get<float>(),
                  1e-8f + 1e-6f * std::abs(weights.back()))
          << entry << t;
    }
    EXPECT_TRUE(made.empty()) << entry << " has no " << made.begin()->first;
    ++models;
  }
  EXPECT_GT(models, 0);
}

TEST(TinyModel, opens_as_a_checkpoint_in_every_type) {
  const char* config =
      R"({"model_type":"qwen3","hidden_size":8,"intermediate_size":12,"num_hidden_layers":1,
      "num_attention_heads":2,"num_key_value_heads":1,"head_dim":6,"vocab_size":5,"tie_word_embeddings":true})";
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
    const test::TemporaryFolder folder;
    test::write_tiny_checkpoint(folder.file("model"), config, type);
    const Checkpoint c = open_checkpoint(folder.file("model"));
    EXPECT_EQ(c.tensors.size(), 13u);
    EXPECT_EQ(c.find("lm_head.weight"), nullptr);
    const TensorInfo& t = c.require("model.layers.0.self_attn.k_norm.weight");
    EXPECT_EQ(t.encoding, Encoding::dense(type));
    ASSERT_EQ(t.shape, std::vector<int64_t>{6});
    std::vector<std::byte> bytes(t.bytes);
    c.read(t, 0, 6, bytes);
    std::vector<float> read(6);
    to_f32(type, bytes.data(), read.data(), 6);
    const auto weights = test::tiny_weights({t.name, t.shape});
    for (size_t i = 0; i < 6; ++i)
      EXPECT_NEAR(read[i], weights[i], type == DType::kF32 ? 0 : 0.005f);
  }
}

TEST(TinyModel, weights_are_those_of_the_formula) {
  EXPECT_NEAR(test::tiny_weights({"model.embed_tokens.weight", {96, 64}}).front(), -0.790679693f,
              1e-7f);
  EXPECT_NEAR(test::tiny_weights({"model.layers.0.self_attn.q_proj.weight", {64, 64}}).back(),
              -0.0473620817f, 1e-8f);
  EXPECT_NEAR(test::tiny_weights({"model.layers.0.input_layernorm.weight", {64}}).front(),
              1.03457594f, 1e-6f);
}

}  // namespace
}  // namespace pith
