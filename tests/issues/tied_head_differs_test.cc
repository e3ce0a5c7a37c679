// A configuration with tie_word_embeddings beside a checkpoint that has a head of its own: the
// head was dropped without a word. transformers uses both where they differ.

#include <gtest/gtest.h>

#include <cmath>

#include "core/bytes.h"
#include "formats/safetensors.h"
#include "runtime/cpu/cpu_executor.h"
#include "runtime/eval/evaluate.h"
#include "runtime/model/source.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

enum class Stored { kBoth, kEqual, kOnlyEmbedding, kOnlyHead };

// A model whose config.json says `tied`; the weights of its head are those of the embedding, or its
// own.
std::unique_ptr<ModelSource> open(const std::string& folder, bool tied, Stored stored,
                                  std::string_view embedding = "model.embed_tokens.weight") {
  std::vector<std::vector<float>> contents;
  std::vector<TensorData> tensors;
  const auto add = [&](const std::string& name, const std::vector<int64_t>& shape,
                       std::vector<float> values) {
    contents.push_back(std::move(values));
    tensors.push_back({name, DType::kF32, shape, std::as_bytes(std::span(contents.back()))});
  };
  const auto untied = parse_json(test::tiny_config({.layers = 1}), "config");
  for (const auto& t : test::tiny_tensors(untied)) {
    if (t.name == "lm_head.weight") {
      if (stored == Stored::kOnlyEmbedding) continue;
      auto values = test::tiny_weights(t);
      if (stored != Stored::kBoth) values = test::tiny_weights({std::string(embedding), t.shape});
      add(t.name, t.shape, std::move(values));
    } else if (t.name != embedding || stored != Stored::kOnlyHead) {
      add(t.name, t.shape, test::tiny_weights(t));
    }
  }
  write_safetensors(folder + "/model.safetensors", tensors);
  write_file(folder + "/config.json", as_bytes(test::tiny_config({.layers = 1, .tied = tied})));
  return open_model(folder);
}

std::vector<float> logits(const ModelSource& source) {
  return window_logits(*make_cpu_executor(), load_model(source), {{5, 15, 39, 77}, 0});
}

TEST(TiedHead, that_differs_is_used_and_noted) {
  const test::TemporaryFolder a, b;
  const auto said_tied = open(a.path(), true, Stored::kBoth);
  const auto untied = open(b.path(), false, Stored::kBoth);
  EXPECT_FALSE(said_tied->spec().tied_head());
  ASSERT_EQ(said_tied->notes().size(), 1u);
  EXPECT_NE(said_tied->notes()[0].find("differ: both are used"), std::string::npos);
  EXPECT_TRUE(untied->notes().empty());
  EXPECT_EQ(logits(*said_tied), logits(*untied));
}

TEST(TiedHead, that_is_equal_or_stored_once_stays_tied) {
  const test::TemporaryFolder first;
  const auto expected = logits(*open(first.path(), true, Stored::kOnlyEmbedding));
  for (const auto stored : {Stored::kEqual, Stored::kOnlyHead}) {
    const test::TemporaryFolder folder;
    const auto source = open(folder.path(), true, stored);
    EXPECT_TRUE(source->spec().tied_head());
    EXPECT_TRUE(source->notes().empty());
    EXPECT_EQ(logits(*source), expected);
  }
}

}  // namespace
}  // namespace pith
