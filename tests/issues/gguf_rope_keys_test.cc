// Keys of RoPE in GGUF files were not read as llama.cpp reads them: a factor beside the type "none"
// was taken, a factor of 0 refused, and one beside rope_freqs.weight forgotten.

#include <gtest/gtest.h>

#include <functional>

#include "core/bytes.h"
#include "core/file.h"
#include "runtime/model/source.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

using test::GgufBuilder;

// The RoPE of a llama of one layer with these keys.
proto::Rope rope_of(const std::function<void(GgufBuilder&)>& keys, bool freqs = false) {
  GgufBuilder b;
  b.pair("general.architecture", "llama");
  b.pair<uint32_t>("llama.embedding_length", 32).pair<uint32_t>("llama.context_length", 64);
  b.pair<uint32_t>("llama.block_count", 1).pair<uint32_t>("llama.feed_forward_length", 32);
  b.pair<uint32_t>("llama.attention.head_count", 2);
  b.pair("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  keys(b);
  const auto zeros = [&](const std::string& name, const std::vector<uint64_t>& sizes) {
    uint64_t count = 1;
    for (const uint64_t s : sizes) count *= s;
    b.tensor(name, 0, sizes, std::string(count * sizeof(float), '\0'));
  };
  zeros("token_embd.weight", {32, 24});
  zeros("output_norm.weight", {32});
  for (const char* const name : {"attn_norm", "ffn_norm"})
    zeros(std::string("blk.0.") + name + ".weight", {32});
  for (const char* const name :
       {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"})
    zeros(std::string("blk.0.") + name + ".weight", {32, 32});
  std::string factors;
  for (const float f : {1.0f, 1.0f, 2.0f, 2.0f, 4.0f, 4.0f, 8.0f, 8.0f}) factors += test::le(f);
  if (freqs) b.tensor("rope_freqs.weight", 0, {8}, factors);
  const test::TemporaryFolder folder;
  write_file(folder.file("m.gguf"), as_bytes(b.build()));
  return open_model(folder.file("m.gguf"))->spec().layers(0).sublayers(0).attention().rope();
}

TEST(GgufRopeKeys, that_are_absent_have_the_defaults_of_llama_cpp) {
  const proto::Rope r = rope_of([](GgufBuilder&) {});
  EXPECT_EQ(r.scaling(), proto::ROPE_PLAIN);
  EXPECT_EQ(r.dims(), 16u);
  EXPECT_EQ(r.theta(), 1e4);
}

TEST(GgufRopeKeys, a_factor_is_linear_unless_a_type_says_otherwise) {
  const auto with = [](const char* type, float factor) {
    return rope_of([=](GgufBuilder& b) {
      if (type != nullptr) b.pair("llama.rope.scaling.type", type);
      b.pair("llama.rope.scaling.factor", factor);
    });
  };
  EXPECT_EQ(with(nullptr, 4).scaling(), proto::ROPE_LINEAR);
  EXPECT_EQ(with(nullptr, 4).factor(), 4);
  EXPECT_EQ(with("linear", 4).factor(), 4);
  EXPECT_EQ(with("none", 4).scaling(), proto::ROPE_PLAIN);
  EXPECT_EQ(with(nullptr, 0).scaling(), proto::ROPE_PLAIN);
  EXPECT_EQ(with("linear", 1).scaling(), proto::ROPE_PLAIN);
  EXPECT_EQ(with("yarn", 4).scaling(), proto::ROPE_YARN);
}

TEST(GgufRopeKeys, a_linear_factor_holds_beside_the_factors_of_a_tensor) {
  const proto::Rope plain = rope_of([](GgufBuilder&) {}, true),
                    linear = rope_of(
                        [](GgufBuilder&b) { b.pair("llama.rope.scaling.factor", 2.0f); }, true);
  ASSERT_EQ(plain.long_factor_size(), 8);
  for (int i = 0; i < 8; ++i) EXPECT_EQ(linear.long_factor(i), 2 * plain.long_factor(i));
}

}  // namespace
}  // namespace pith
