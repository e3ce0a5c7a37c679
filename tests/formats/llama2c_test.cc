#include "formats/llama2c.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "core/bytes.h"
#include "tests/support/llama2c_bytes.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

using test::llama2c_bytes;
using test::Llama2cSizes;
using test::TemporaryFolder;
using testing::ElementsAre;

Llama2cHeader parse(std::string_view bytes) {
  return parse_llama2c(as_bytes(bytes), bytes.size(), "file");
}

float first_float(const Checkpoint& c, const std::string& name) {
  const auto& t = c.require(name);
  std::vector<std::byte> bytes(t.bytes);
  c.read(t, 0, t.shape[0], bytes);
  float f;
  std::memcpy(&f, bytes.data(), sizeof(f));
  return f;
}

TEST(Llama2c, layers_are_slices_of_the_stacked_matrices) {
  const TemporaryFolder folder;
  write_file(folder.file("m.bin"), as_bytes(llama2c_bytes({})));
  const Checkpoint c = open_llama2c(folder.file("m.bin"));
  EXPECT_EQ(c.tensors.size(), 1 + 2 * 9 + 1u);
  EXPECT_EQ(c.find("lm_head.weight"), nullptr);
  EXPECT_THAT(c.require("model.embed_tokens.weight").shape, ElementsAre(5, 8));
  EXPECT_THAT(c.require("model.layers.1.self_attn.k_proj.weight").shape, ElementsAre(4, 8));
  EXPECT_THAT(c.require("model.layers.1.mlp.down_proj.weight").shape, ElementsAre(8, 12));
  EXPECT_THAT(c.require("model.norm.weight").shape, ElementsAre(8));
  // The file counts up from 0, so that the first element of a matrix is where it begins.
  const std::pair<const char*, float> begins[] = {
      {"model.embed_tokens.weight", 0},
      {"model.layers.0.input_layernorm.weight", 40},
      {"model.layers.1.input_layernorm.weight", 48},
      {"model.layers.0.self_attn.q_proj.weight", 56},
      {"model.layers.1.self_attn.q_proj.weight", 56 + 64},
      {"model.layers.0.self_attn.k_proj.weight", 184},
      {"model.layers.1.self_attn.v_proj.weight", 184 + 64 + 32},
      {"model.layers.0.self_attn.o_proj.weight", 312},
      {"model.layers.0.post_attention_layernorm.weight", 440},
      {"model.layers.0.mlp.gate_proj.weight", 456},
      {"model.layers.1.mlp.gate_proj.weight", 456 + 96},
      {"model.layers.0.mlp.down_proj.weight", 648},
      {"model.layers.1.mlp.up_proj.weight", 840 + 96},
      {"model.norm.weight", 1032},
  };
  for (const auto& [name, begin] : begins) EXPECT_EQ(first_float(c, name), begin) << name;
}

TEST(Llama2c, a_negative_vocabulary_brings_an_output_head) {
  const TemporaryFolder folder;
  write_file(folder.file("m.bin"), as_bytes(llama2c_bytes({.vocab = -5})));
  const Checkpoint c = open_llama2c(folder.file("m.bin"));
  EXPECT_EQ(c.config.at("tie_word_embeddings"), false);
  EXPECT_EQ(c.config.at("vocab_size"), 5);
  EXPECT_THAT(c.require("lm_head.weight").shape, ElementsAre(5, 8));
  EXPECT_EQ(first_float(c, "lm_head.weight"),
            1040 + 16);  // behind the tables of 4 positions by head size 4
}

TEST(Llama2c, config_speaks_the_words_of_hugging_face) {
  const Json config = parse(llama2c_bytes({})).config;
  EXPECT_EQ(
      config,
      Json::parse(
          R"({"model_type":"llama2c","hidden_size":8,"intermediate_size":12,"num_hidden_layers":2,
      "num_attention_heads":2,"num_key_value_heads":1,"vocab_size":5,"max_position_embeddings":4,"rms_norm_eps":1e-5,
      "rope_theta":10000.0,"tie_word_embeddings":true,"bos_token_id":1,"eos_token_id":2})"));
}

TEST(Llama2c, tensors_fill_the_file_except_for_the_tables) {
  for (const Llama2cSizes& s : {Llama2cSizes{}, Llama2cSizes{.vocab = -7},
                                Llama2cSizes{.dim = 64, .heads = 8, .kv_heads = 4}}) {
    const std::string bytes = llama2c_bytes(s);
    uint64_t at = 28;
    for (const auto& t : parse(bytes).tensors) {
      if (t.name == "lm_head.weight")
        at += static_cast<uint64_t>(s.context * (s.dim / s.heads)) * 4;
      EXPECT_EQ(t.offset, at) << t.name;
      at += t.bytes;
    }
    EXPECT_EQ(at + (s.vocab > 0 ? static_cast<uint64_t>(s.context * (s.dim / s.heads)) * 4 : 0),
              bytes.size());
  }
}

TEST(Llama2c, is_recognised_by_its_exact_size) {
  const std::string bytes = llama2c_bytes({});
  const auto head = as_bytes(bytes).first(28);
  EXPECT_TRUE(looks_like_llama2c(head, bytes.size()));
  EXPECT_FALSE(looks_like_llama2c(head, bytes.size() - 1));
  EXPECT_FALSE(looks_like_llama2c(head, bytes.size() + 1));
  EXPECT_FALSE(looks_like_llama2c(head.first(27), bytes.size()));
}

TEST(Llama2c, the_tokenizer_beside_the_model_is_taken_if_there_is_no_choice) {
  const TemporaryFolder folder;
  write_file(folder.file("toks.model.bin"), as_bytes(llama2c_bytes({})));
  const auto tokenizer = [&] {
    return open_llama2c(folder.file("toks.model.bin")).tokenizer.llama2c;
  };
  EXPECT_EQ(tokenizer(), "");
  write_file(folder.file("tok512.bin"), as_bytes("a"));
  EXPECT_EQ(tokenizer(), "a");
  write_file(folder.file("tok4096.bin"), as_bytes("b"));
  EXPECT_EQ(tokenizer(), "");
  write_file(folder.file("tokenizer.bin"), as_bytes("c"));
  EXPECT_EQ(tokenizer(), "c");
}

TEST(Llama2c, a_real_model_opens) {
  PITH_SHARED_OR_SKIP(path, "stories260K/stories260K.bin");
  const Checkpoint c = open_llama2c(path);
  EXPECT_EQ(c.config.at("hidden_size"), 64);
  EXPECT_EQ(c.config.at("intermediate_size"), 172);
  EXPECT_EQ(c.config.at("num_hidden_layers"), 5);
  EXPECT_EQ(c.config.at("num_key_value_heads"), 4);
  EXPECT_EQ(c.config.at("vocab_size"), 512);
  EXPECT_EQ(c.config.at("tie_word_embeddings"), true);
  EXPECT_THAT(c.require("model.layers.4.self_attn.k_proj.weight").shape, ElementsAre(32, 64));
  EXPECT_FALSE(c.tokenizer.llama2c.empty());
  // Norm weights of a trained model are near 1.
  const auto& t = c.require("model.norm.weight");
  std::vector<float> norm(64);
  c.read(t, 0, 64, std::as_writable_bytes(std::span(norm)));
  for (const float v : norm) EXPECT_TRUE(v > 0.1f && v < 20.0f) << v;
}

struct Corrupt {
  const char* name;
  Llama2cSizes sizes;
  const char* text;
};
constexpr int32_t kMax = std::numeric_limits<int32_t>::max(),
                  kMin = std::numeric_limits<int32_t>::min();
const Corrupt kCorrupt[] = {
    {"dim_0", {.dim = 0}, "dim is 0"},
    {"dim_negative", {.dim = -8}, "dim is -8"},
    {"dim_huge", {.dim = kMax}, "dim is 2147483647"},
    {"hidden_0", {.hidden = 0}, "hidden_dim is 0"},
    {"hidden_negative", {.hidden = kMin}, "hidden_dim is -2147483648"},
    {"hidden_huge", {.hidden = kMax}, "hidden_dim is"},
    {"layers_0", {.layers = 0}, "n_layers is 0"},
    {"layers_negative", {.layers = -1}, "n_layers is -1"},
    {"layers_huge", {.layers = kMax}, "n_layers is"},
    {"layers_many", {.layers = 4095}, "the header calls for"},
    {"heads_0", {.heads = 0}, "n_heads is 0"},
    {"heads_negative", {.heads = -2}, "n_heads is -2"},
    {"heads_do_not_divide", {.heads = 3}, "not an even multiple of n_heads 3"},
    {"heads_above_dim", {.heads = 16}, "not an even multiple of n_heads 16"},
    {"head_size_odd", {.heads = 8}, "not an even multiple of n_heads 8"},
    {"kv_heads_0", {.kv_heads = 0}, "n_kv_heads is 0"},
    {"kv_heads_negative", {.kv_heads = -1}, "n_kv_heads is -1"},
    {"kv_heads_do_not_divide", {.kv_heads = 3}, "not a multiple of n_kv_heads 3"},
    {"kv_heads_above_heads", {.kv_heads = 4}, "not a multiple of n_kv_heads 4"},
    {"vocab_0", {.vocab = 0}, "vocab_size is 0"},
    {"vocab_huge", {.vocab = kMax}, "vocab_size is 2147483647"},
    {"vocab_min", {.vocab = kMin}, "vocab_size is -2147483648"},
    {"vocab_other_sign", {.vocab = -5}, "the header calls for"},
    {"context_0", {.context = 0}, "seq_len is 0"},
    {"context_negative", {.context = -4}, "seq_len is -4"},
    {"context_huge", {.context = kMax}, "seq_len is"},
    {"everything_huge",
     {1 << 20, 1 << 22, 4095, 2, 2, -(1 << 24), 1 << 26},
     "the header calls for"},
};
class CorruptLlama2c : public testing::TestWithParam<Corrupt> {};
TEST_P(CorruptLlama2c, is_refused_and_not_recognised) {
  std::string bytes = llama2c_bytes({});
  bytes.replace(0, 28, test::llama2c_header(GetParam().sizes));
  EXPECT_PITH_ERROR(parse(bytes), ErrorKind::kCorrupt, GetParam().text);
  EXPECT_FALSE(looks_like_llama2c(as_bytes(bytes), bytes.size()));
}
INSTANTIATE_TEST_SUITE_P(Table, CorruptLlama2c, testing::ValuesIn(kCorrupt),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(CorruptLlama2cSweep, every_truncation_is_refused) {
  const std::string bytes = llama2c_bytes({});
  for (size_t n = 0; n < bytes.size(); ++n)
    EXPECT_PITH_ERROR(parse(bytes.substr(0, n)), ErrorKind::kCorrupt, "");
  EXPECT_PITH_ERROR(parse(bytes + "x"), ErrorKind::kCorrupt, "the header calls for");
}

TEST(CorruptLlama2cSweep, every_flipped_bit_is_refused) {
  const std::string bytes = llama2c_bytes({});
  for (size_t bit = 0; bit < 28 * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_PITH_ERROR(parse(flipped), ErrorKind::kCorrupt, "");
  }
}

}  // namespace
}  // namespace pith
