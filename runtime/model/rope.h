// Rotary position embedding: the frequencies that a spec means for a sequence of given length.
//   Su et al. 2021 (RoPE), Chen et al. 2023 (linear), Peng et al. 2023 (YaRN), NTK-aware "dynamic",
//   Llama 3.1, Ding et al. 2024 (LongRoPE); definitions as in the checkpoints' reference
//   implementation.
#pragma once

#include <cstdint>
#include <vector>

#include "pith.pb.h"

namespace pith {

struct RopeTable {
  std::vector<double> frequency;  // [dims / 2]: angle of pair i at position p is p * frequency[i]
  double amplitude = 1;           // of cos and sin
};

// `length`: tokens in the sequence so far, the current ones included (dynamic and LongRoPE depend
// on it).
RopeTable rope_table(const proto::Rope& rope, int64_t length);

}  // namespace pith
