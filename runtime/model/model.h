// A model in memory: what the forward pass works on. Built from a ModelSource, block by block or
// whole.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/encodings/encoding.h"
#include "formats/encodings/input.h"
#include "runtime/model/float_vector.h"
#include "runtime/model/spec.h"

namespace pith {

// One summand of a linear layer: w x, or up (w x) where `up` is there (low rank, adapters).
struct Term {
  Weight w;                  // [n, k], or [r, k]
  std::optional<Weight> up;  // [n, r]
};

// y[m, n] = sum of terms over x[m, k] + bias, x as `input` rounds it: all terms see the same.
struct Linear {
  std::string name;
  int64_t n = 0, k = 0;
  std::vector<Term> terms;
  FloatVector bias;  // [n], or empty
  InputEncoding input = {};

  uint64_t bytes() const;
};

// Rows [row, row + rows) of the sum of the terms, f32 [rows, k], by plain loops: the reference of
// runtime/cpu/decode.h, and for the few rows that are decoded where no kernels are.
void reference_decode(const Linear& linear, int64_t row, int64_t rows, float* out);

struct NormWeights {
  proto::Norm spec;
  FloatVector weight;
};

struct LatentWeights {
  Linear q_down, kv_down;          // q_down is empty where the spec has no query_rank
  std::vector<Linear> k_up, v_up;  // by head: [rank, plain dims], [value_dim, rank]
};
struct AttentionWeights {
  Linear q, k, v, o;  // k and v are empty of latent attention
  NormWeights query_norm, key_norm;
  FloatVector sinks;  // [heads]: scores besides those of keys; or empty
  std::optional<LatentWeights> latent;
};
struct MlpWeights {
  Linear gate, up, down;  // gate is empty where the spec is not gated
};

struct MoeWeights {
  Linear router;
  FloatVector choice_bias;  // [experts], or empty
  std::vector<MlpWeights> experts;
  std::optional<MlpWeights> shared;
  Linear shared_gate;  // [1, hidden], or empty
};

struct SublayerWeights {
  NormWeights norm, post_norm;
  std::optional<AttentionWeights> attention;
  std::optional<MlpWeights> mlp;
  std::optional<MoeWeights> moe;

  std::vector<const Linear*> linears() const;  // all that are there
};

struct Block {
  int layer = 0;
  std::vector<SublayerWeights> sublayers;
};

// The linear of a block; Error(kUsage) where it has none.
Linear& find_linear(Block& block, const LinearInfo& info);
const Linear& find_linear(const Block& block, const LinearInfo& info);

// The vector of a block; Error(kUsage) where it has none.
FloatVector& find_vector(Block& block, const VectorInfo& info);

struct Model {
  proto::ModelSpec spec;
  Linear embedding;
  std::vector<Block> blocks;
  NormWeights final_norm;
  std::optional<Linear> own_head;  // absent where tied

  const Linear& head() const { return own_head ? *own_head : embedding; }
  uint64_t bytes() const;
};

}  // namespace pith
