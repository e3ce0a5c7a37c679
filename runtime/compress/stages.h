// A stage is the linears of a sublayer that have the same input: q k v, then o; gate and up, then
// down; of a mixture the router (with gate and up of a shared expert), then gate and up of each
// expert, over the tokens that come to it, then down of each; of latent attention what reads the
// hidden states, then q, k_up and v_up of each head, then o. They are compressed together, and the
// next stage sees inputs that the compressed ones made.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/model/source.h"

namespace pith {

struct Stage {
  int sublayer = 0;
  std::vector<LinearInfo> linears;
  int64_t k() const { return linears.front().k; }
};
std::vector<Stage> stages_of(const proto::ModelSpec& spec, int layer);

}  // namespace pith
