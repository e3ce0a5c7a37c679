// MoE routing: the experts that the tokens of a pass go to.
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
// weighed in f64 as spec says. By softmax they are chosen by logit; by sigmoids, by these rounded
// to f32, plus choice_bias [experts] where there is one. Groups rank alike, of equal ones the
// first. NaN is the least.
std::vector<ExpertTokens> route(const proto::Moe& spec, std::span<const float> router,
                                std::span<const float> choice_bias = {});

}  // namespace pith
