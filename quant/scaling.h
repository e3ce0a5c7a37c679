// Scales of input channels, moved from the activations into the weights before those are rounded:
// W[:, j] grows by s_j, and what made channel j shrinks by as much. What a sublayer computes stays
// the same; what rounding costs does not.
//
// What makes a channel: the norm before q k v and gate up; the rows of v before o (all query heads
// that share a key head have one scale, so that grouped queries fold too); the rows of up before
// down, where the activation is gated. Elsewhere nothing is moved.
//
//   awq          s = a^r / b^t, a the root mean square of the channel, b that of its weights, over
//                a grid of r and t in {0, 1 - r}; the pair whose rounded weights change the output
//                of the sublayer least (Lin et al. 2023, section 3.2)
//   smoothquant  s = max|x|^alpha / max|w|^(1 - alpha)   (Xiao et al. 2022, equation 4); alpha is
//                given, or the one whose rounded weights and inputs change the output of the
//                sublayer least
//
// Scales are normalized by sqrt(largest * smallest) and held to [1e-4, 1e4].
#pragma once

#include <span>
#include <string_view>

#include "quant/method.h"

namespace pith {

struct ScalingJob {
  const QuantizeSettings& settings;
  const proto::Sublayer& spec;
  const Stage& stage;
  const std::vector<std::optional<Encoding>>& encodings;  // of stage.linears; none: not rounded
  Block& block;
  Calibration& calibration;
};

struct Scaling {
  const char* name;
  const char* summary;
  StatisticsNeeds needs;
  void (*apply)(const ScalingJob& job);
};

std::span<const Scaling> scalings();

void scale_awq(const ScalingJob& job);
void scale_smoothquant(const ScalingJob& job);

// Moves s [k] into the stage's linears. False, and nothing done, where the sublayer has no place to
// take it from. Scales of query heads that share a key head must be equal: see shared_scales.
bool fold_scales(const ScalingJob& job, std::span<const float> s);
// The s nearest to `s` that fold_scales can move.
void share_scales(const ScalingJob& job, std::span<float> s);

}  // namespace pith
