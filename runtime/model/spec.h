// What a ModelSpec implies: which linear layers and vectors it has, under which names, in which
// order.
//
// Names: "embedding", "layers.3.attention.q", "layers.3.mlp.down", "layers.3.mlp.router",
// "layers.3.mlp.experts.7.down", "head"; vectors
// "layers.3.attention.norm", "layers.3.attention.query_norm", "layers.3.mlp.post_norm",
// "layers.3.attention.sinks", "final_norm". The part in the middle is the sublayer's own name.
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
  kRouter
};
const char* role_name(LinearRole role);  // "q", "down", ...

struct LinearInfo {
  std::string name;
  LinearRole role;
  int layer;  // -1: outside of the layers
  int sublayer;
  int64_t n, k;
  bool bias;
  int expert = -1;  // of a mixture
};

enum class VectorRole : uint8_t { kNorm, kPostNorm, kQueryNorm, kKeyNorm, kFinalNorm, kSinks };

struct VectorInfo {
  std::string name;
  VectorRole role;
  int layer;  // -1: outside of the layers
  int sublayer;
  int64_t length;
};

inline constexpr int kMaxStopTokens = 1024;

// Error(kCorrupt) where the spec contradicts itself or is out of bounds: every later computation on
// it is safe.
void check_spec(const proto::ModelSpec& spec, const std::string& name);

std::string sublayer_prefix(const proto::ModelSpec& spec, int layer,
                            int sublayer);  // "layers.3.attention."
// In the order of the computation.
std::vector<LinearInfo> linears_of(const proto::ModelSpec& spec);
std::vector<LinearInfo> linears_of(const proto::ModelSpec& spec, int layer);
std::vector<VectorInfo> vectors_of(const proto::ModelSpec& spec);
uint64_t parameter_count(const proto::ModelSpec& spec);  // the tied matrix once

}  // namespace pith
