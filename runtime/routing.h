// Which experts of a mixture the tokens of a pass go to.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "pith.pb.h"

namespace pith {

// What one expert gets: rows of its inputs, in order, and the weights of what it makes of them.
struct ExpertTokens {
  std::vector<int64_t> rows;
  std::vector<float> weights;
};

// By expert. router: [m, experts], m rows; the likeliest are chosen, of equal ones the first, and
// weighed by softmax in f64, over all experts or (normalized) over the chosen. NaN is the least.
std::vector<ExpertTokens> route(const proto::Mixture& spec, std::span<const float> router);

}  // namespace pith
