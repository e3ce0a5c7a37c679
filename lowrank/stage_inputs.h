// Statistics of the inputs of a stage for low-rank methods, and the target of the approximation.
//
// The inputs x of a stage carry the errors of what was compressed before it; the layer is to give
// y = W o + s, see runtime/compress/input_correction.h. The best factors of rank r for that are
// those of the corrected weight T = W + (W C + S) H^-1 (reduced-rank regression, Izenman 1975:
// mean |y - b x|^2 = const + |(T - b) S|^2), so that one decomposition takes the place of
// alternating least squares between the factors (the updates of SVD-LLM, which end there: on a small
// model one round of `up` closed two fifths of the way, one of both factors all of it). How far the
// weight moves is judged on windows that were held out.
#pragma once

#include <memory>
#include <string>

#include "lowrank/factors.h"
#include "runtime/compress/input_correction.h"
#include "runtime/compress/pass.h"

namespace pith {

struct InputOptions {
  Damping gram = {.damping = 0.01, .shrink = 0};
  double correct_inputs = 1;  // 0 to 1: how far the target may move

  void check() const;  // Error(kUsage) for nonsense
  StatisticsNeeds needs() const;
  PassMemory working(int64_t n, int64_t k) const;
};

// As settings of a step (runtime/compress/settings.h).
template <class V>
void describe(V& v, InputOptions& o) {
  v("damp_percent", o.gram.damping, "added to the diagonal of the Hessian, as a share of its mean",
    {0, 10});
  v("shrink", o.gram.shrink, "how far the Hessian is moved towards its diagonal", {0, 1});
  v("correct_inputs", o.correct_inputs, "share of the way to make up for errors of earlier layers",
    {0, 1});
}

class StageInputs {
 public:
  // Takes the statistics from the text. `calibration` null: nothing is known of the inputs.
  StageInputs(const Stage& stage, Calibration* calibration, const InputEncoding& rounding,
              const InputOptions& options);

  Algebra& algebra() const { return algebra_; }
  const Whitening& whitening() const { return whitening_; }
  // Why the factors are those of plain SVD though a text was read; empty: they are not.
  const std::string& fallback() const { return fallback_; }

  // w [n, k] in the memory of the algebra moves towards the corrected weight. Returns how far, 0
  // to 1.
  double correct(Matrix<float>& w) const;

 private:
  Algebra& algebra_;
  InputOptions options_;
  Whitening whitening_;
  std::unique_ptr<InputCorrection> correction_;  // null: none
  std::string fallback_;
};

}  // namespace pith
