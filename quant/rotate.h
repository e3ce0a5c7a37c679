// A model with rotated weights: the same function at the same cost, but the few channels of large
// magnitude that quantization suffers from are shared out among all. QuaRot (Ashkboos et al. 2024,
// arXiv 2404.00456), of which these are the rotations that cost nothing at run time.
//
//   residual  the residual stream x becomes x Q. An RMS norm without weights commutes with Q, so
//             the weights of every norm on the residual stream go into the linears after it:
//               embedding  E Q           q k v gate up head  W diag(norm) Q     norms  1
//               o down     Q^T W, Q^T bias
//             A tied head reads through the last norm, and the embedding does not: it is untied,
//             and the model has one matrix more.
//   values    the value v of each head becomes v R, one R [head_dim, head_dim] for every size:
//               v  R^T W, R^T bias by head       o  W R by head
//
// Sums are f64, results are rounded once to f32. Linears that no rotation meets are passed on as
// they are. rows() of a linear that reads the residual stream reads those rows alone; of one
// that writes to it, the whole matrix.
#pragma once

#include <cstdint>
#include <memory>

#include "runtime/compress/settings.h"
#include "runtime/model/source.h"

namespace pith {

struct RotateOptions {
  uint64_t seed = 0;
  bool residual = true, values = true;
};

// The settings of a step `rotate` of a recipe. Error(kUsage).
RotateOptions read_rotate_options(SettingsReader& reader);

// `inner` stays where it is for as long as the result lives. Error(kUnsupported) where the norms
// are of a kind that a rotation changes.
std::unique_ptr<ModelSource> rotate_model(const ModelSource& inner, const RotateOptions& options);

}  // namespace pith
