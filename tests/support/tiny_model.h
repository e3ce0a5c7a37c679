// Models with weights that any program can repeat from their names, so that none need be stored.
//
// Element i (row-major) of the tensor NAME, integers modulo 2^64:
//   x = fnv1a64(NAME) + i * 0x9E3779B97F4A7C15
//   z = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;  z ^= z >>
//   31 u = (z >> 40) / 2^24 * 2 - 1, a double in [-1, 1)
// and then
//   rank 1, NAME ends in "norm.weight"   1 + 0.1 u
//   rank 1, else (biases)                0.1 u
//   "model.embed_tokens.weight"          u
//   rank 2 and 3, else, [.., k]          sqrt(3 / k) u
//   ".sinks", "gate_up_proj_bias", "down_proj_bias"  2 u, 8 u, 0.1 u
// those of rank 3 then as MXFP4 has them (tiny_mx), and stored so where the config has a
// quantization_config, else transposed; others
// rounded to f32, and from there to the type that is stored.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/json.h"

namespace pith::test {

struct TinyTensor {
  std::string name;
  std::vector<int64_t> shape;
};

// The tensors of a Hugging Face model with this config: llama, mistral, mixtral, qwen2,
// qwen2_moe, qwen3, qwen3_moe, phi3, gemma, gemma2, gemma3_text, gpt_oss, deepseek_v2, deepseek_v3,
// glm4_moe.
std::vector<TinyTensor> tiny_tensors(const Json& config);
std::vector<float> tiny_weights(const TinyTensor& tensor);
// As MXFP4: group j of 32 has the scale 2^(-5 - j mod 3), numbers the nearest code.
struct TinyMx {
  std::vector<uint8_t> codes, scales;
};
TinyMx tiny_mx(const TinyTensor& tensor);

// Makes the folder where it is missing, and in it config.json and model.safetensors. `change` may
// alter the weights of a tensor by its name.
using ChangeWeights = std::function<void(const std::string& name, std::vector<float>& weights)>;
void write_tiny_checkpoint(const std::string& folder, const std::string& config,
                           DType dtype = DType::kF32, const ChangeWeights& change = {});
// With these tensors, whatever the config says.
void write_tiny_checkpoint(const std::string& folder, const std::string& config,
                           std::vector<TinyTensor> tensors, DType dtype = DType::kF32,
                           const ChangeWeights& change = {});

// A llama with `layers` layers of this size, for tests that need a model and not a certain one.
struct TinySizes {
  int hidden = 64, ffn = 112, layers = 3, heads = 4, kv_heads = 2, vocab = 96;
  bool tied = false;
};
std::string tiny_config(const TinySizes& sizes);
// A Gemma 2 of these sizes, with windows of 7 tokens and caps that bend.
std::string tiny_gemma_config(const TinySizes& sizes);
// A Mixtral of these sizes.
std::string tiny_moe_config(const TinySizes& sizes, int experts, int chosen);
// A DeepSeek-V3 of these sizes, with latent attention of these and one dense layer before the
// mixtures.
struct TinyLatent {
  int rank = 32, query_rank = 48, plain = 16, rotated = 8, value = 24;
};
std::string tiny_latent_config(const TinySizes& sizes, const TinyLatent& latent = {});

}  // namespace pith::test
