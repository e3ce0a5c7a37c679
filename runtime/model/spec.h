// What a ModelSpec implies: which linear layers and vectors it has, under which names, in which
// order.
//
// Names: "embedding", "layers.3.attention.q", "layers.3.mlp.down", "layers.3.mlp.router",
// "layers.3.mlp.experts.7.down", "layers.3.mlp.shared.down", "layers.3.attention.heads.5.k_up",
// "head"; vectors "layers.3.attention.norm", "layers.3.attention.query_norm",
// "layers.3.mlp.post_norm", "layers.3.attention.sinks", "layers.3.mlp.choice_bias", "final_norm".
// The part in the middle is the sublayer's own name. Besides, where the spec has them: "positions",
// "token_types"; vectors "layers.3.attention.output_norm", "layers.3.attention.relative_bias",
// "embedding_norm", and beside every norm with a bias "..._bias" ("layers.3.mlp.norm_bias"). The
// layers of an encoder stack are "encoder.layers.3...", its last norm is "encoder.final_norm".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pith.pb.h"

namespace pith {

enum class LinearRole : uint8_t {
  kEmbedding,
  kQuery,
  kKey,
  kValue,
  kOutput,
  kGate,
  kUp,
  kDown,
  kHead,
  kRouter,
  kSharedGate,
  // MLA: q_a_proj; kv_a_proj_with_mqa (latent vector, then rotary key); per head W_UK, which is
  // absorbed into the queries, and W_UV, which is applied to the attention output.
  kQueryDown,
  kKeyValueDown,
  kKeyUp,
  kValueUp,
  // Further embeddings, added to that of the tokens.
  kPositions,
  kTokenTypes,
};
const char* role_name(LinearRole role);  // "q", "down", ...
// Few numbers that decide much: they are not compressed unless asked for.
inline bool is_gate(LinearRole role) {
  return role == LinearRole::kRouter || role == LinearRole::kSharedGate;
}

// The list of layers that a layer is in; most models have only the first.
enum class StackId : uint8_t { kDecoder, kEncoder };

struct LinearInfo {
  std::string name;
  LinearRole role;
  int layer;  // -1: outside of the layers
  int sublayer;
  int64_t n, k;
  bool bias;
  int expert = -1;  // of a MoE; its shared expert has none
  int head = -1;    // of latent attention
  StackId stack = StackId::kDecoder;
  // Which of several that do the same for other inputs: an expert, a head; -1: it is alone.
  int part() const { return expert >= 0 ? expert : head; }
};

enum class VectorRole : uint8_t {
  kNorm,
  kPostNorm,
  kQueryNorm,
  kKeyNorm,
  kFinalNorm,
  kSinks,
  kChoiceBias,
  kOutputNorm,
  kEmbeddingNorm,
  kRelativeBias,  // [buckets, heads]
  kNormBias,
  kPostNormBias,
  kQueryNormBias,
  kKeyNormBias,
  kFinalNormBias,
  kOutputNormBias,
  kEmbeddingNormBias,
};

struct VectorInfo {
  std::string name;
  VectorRole role;
  int layer;  // -1: outside of the layers
  int sublayer;
  int64_t length;
  StackId stack = StackId::kDecoder;
};

inline constexpr int kMaxStopTokens = 1024;

// Error(kCorrupt) where the spec contradicts itself or is out of bounds: every later computation on
// it is safe.
void check_spec(const proto::ModelSpec& spec, const std::string& name);

// Error(kUnsupported) naming the first part of a model that can be stored, but that the forward
// pass does not compute yet (features_of() in formats/features.h). Called before weights are
// loaded.
void check_runs(const proto::ModelSpec& spec, const std::string& name);

int layer_count(const proto::ModelSpec& spec, StackId stack);
const proto::LayerSpec& layer_of(const proto::ModelSpec& spec, int layer, StackId stack);
// "layers.3.attention.", "encoder.layers.3.attention."
std::string sublayer_prefix(const proto::ModelSpec& spec, int layer, int sublayer,
                            StackId stack = StackId::kDecoder);
// In the order of the computation: the embedding first, the head last where there is one.
std::vector<LinearInfo> linears_of(const proto::ModelSpec& spec);
std::vector<LinearInfo> linears_of(const proto::ModelSpec& spec, int layer,
                                   StackId stack = StackId::kDecoder);
std::vector<VectorInfo> vectors_of(const proto::ModelSpec& spec);
std::vector<VectorInfo> vectors_of(const proto::ModelSpec& spec, int layer,
                                   StackId stack = StackId::kDecoder);
uint64_t parameter_count(const proto::ModelSpec& spec);  // the tied matrix once

// Attention in the form that is cached. For MLA all heads share one key, the rotary part and then
// the latent vector, which is their value as well: W_UK is absorbed into the queries and W_UV into
// the output (DeepSeek-V2, 2024, section 2.1.2).
proto::Attention absorbed_form(const proto::Attention& a);
// The dimensions of an MLA head without RoPE (qk_nope_head_dim).
int64_t plain_dims(const proto::Attention& a);
int64_t value_dim(const proto::Attention& a);  // of a head's value
// Whether a linear multiplies the hidden states behind its sublayer's norm.
bool reads_stream(const proto::ModelSpec& spec, const LinearInfo& info);

}  // namespace pith
