// GPTQ over the linears of a stage. Where the Gram matrix cannot be factored as asked, damping
// increases to 0.1 and to 1, where those are more than what was asked for; then comes its diagonal
// alone (weighted rounding), then rounding without data. Every step but the first is reported as a
// fallback.
//
// The target of rounding moves from W towards what corrects the errors of the inputs
// (input_correction.h), by at most `correct_inputs`, as far as that lowers the error on windows
// that were held out.
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

  // A linear of the stage, rounded in place. `mask`: what was pruned of it; null: nothing.
  LinearReport round(Linear& linear, const Encoding& e, const Mask* mask = nullptr);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pith
