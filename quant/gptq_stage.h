// GPTQ over the linears of a stage. Where the Gram matrix cannot be factored as asked, the ladder:
// damping 0.1, then 1, then its diagonal alone (weighted rounding), then rounding without data.
// Every rung but the first is reported as a fallback.
//
// Input correction (GPTAQ, Li et al. 2025; Qronos, Zhang et al. 2025): the inputs x of a stage
// carry the errors of what was compressed before it, o are those of the uncompressed model. Rather
// than W x the rounded layer is to give W o, and where its output is added to hidden states that
// miss something by now, that too: y = W o - r. On average W + (W C + R) (H + damping)^-1 does that
// best, C = mean of (o - x) x^T, R = mean of -r x^T. The target of rounding moves from W towards it
// by `correct_inputs`. It is kept for a linear where it lowers the error against y on windows that
// were held out.
//
// A low-rank term up (w x) is rounded factor by factor: w for the inputs x, then up for the inputs
// that the rounded w gives, whose Gram matrix is w H w^T.
#pragma once

#include <memory>

#include "quant/gptq.h"

namespace pith {

// What GPTQ knows of the inputs of a stage; rounds its linears, as often as asked.
class GptqStage {
 public:
  // Takes the statistics from the text, of the inputs as they will be rounded: in directions where
  // there is little but that noise, weights may not grow.
  GptqStage(const Stage& stage, const GptqOptions& options, Calibration& calibration,
            const InputEncoding& input = {});
  ~GptqStage();

  void round(const StageJob& job);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pith
