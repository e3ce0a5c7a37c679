// MoE routing: the experts that the tokens of a pass go to, and with which weights.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "pith.pb.h"

namespace pith {

// weights[m, experts] of router logits [m, experts]: positive where an expert was chosen (at least
// the least normal f32), else 0. The likeliest are chosen, of equal ones the first, and weighed in
// f64 as spec says. By softmax they are chosen by logit; by sigmoids, by these rounded to f32, plus
// choice_bias [experts] where there is one. Groups rank alike, of equal ones the first. NaN is the
// least.
void route(const proto::Moe& spec, std::span<const float> logits,
           std::span<const float> choice_bias, std::span<float> weights);

// The rows of weights [m, experts] that chose each expert, in order.
std::vector<std::vector<int64_t>> rows_of_experts(std::span<const float> weights, int64_t experts);

}  // namespace pith
