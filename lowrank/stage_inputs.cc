#include "lowrank/stage_inputs.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "runtime/cpu/cpu_algebra.h"

namespace pith {

void InputOptions::check() const {
  if (!(gram.damping >= 0 && std::isfinite(gram.damping)))
    fail(ErrorKind::kUsage, "damping {}: 0 or more", gram.damping);
  if (!(gram.shrink >= 0 && gram.shrink <= 1))
    fail(ErrorKind::kUsage, "shrink {}: 0 to 1", gram.shrink);
  if (!(correct_inputs >= 0 && correct_inputs <= 1))
    fail(ErrorKind::kUsage, "inputs corrected by {}: 0 to 1", correct_inputs);
}
StatisticsNeeds InputOptions::needs() const {
  return {.gram = true, .cross_gram = correct_inputs > 0};
}
PassMemory InputOptions::working(int64_t n, int64_t k) const {
  // Input correction: as quant/quantize_pass.cc counts it, and panels of all rows.
  const auto rows = static_cast<uint64_t>(n), columns = static_cast<uint64_t>(k);
  const uint64_t correction = correct_inputs > 0 ? columns * columns * 56 + rows * columns * 8 : 0;
  const uint64_t bytes = factors_bytes(n, k) + correction;
  return {.host = bytes, .gpu = bytes};
}

StageInputs::StageInputs(const Stage& stage, Calibration* calibration,
                         const InputEncoding& rounding, const InputOptions& options)
    : algebra_(calibration != nullptr ? calibration->algebra() : cpu_algebra()), options_(options) {
  if (calibration == nullptr) return;
  const StatisticsNeeds needs = {
      .gram = true, .cross_gram = options.correct_inputs > 0 && calibration->holds_out()};
  try {
    const InputStatistics fitted = calibration->inputs(stage, needs, false, rounding);
    if (fitted.tokens == 0) {
      fallback_ = "no token of the calibration text came to it: plain SVD";
      return;
    }
    if (std::ranges::all_of(fitted.gram, [](float v) { return v == 0; })) {
      fallback_ = "its inputs are all zero: plain SVD";
      return;
    }
    whitening_ = Whitening(algebra_, fitted.gram.data(), stage.k(), options.gram);
    if (!fitted.cross_gram.empty()) {
      correction_ =
          InputCorrection::make(algebra_, fitted, calibration->inputs(stage, needs, true, rounding),
                                stage.k(), options.gram);
    }
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kNumeric) throw;
    fallback_ = std::string(e.what()) + ": plain SVD";
  }
}

double StageInputs::correct(Matrix<float>& w) const {
  if (correction_ == nullptr) return 0;
  const auto [gain, cost] = correction_->judge(w.ref(), 0);
  if (!(cost > 0) || !std::isfinite(gain / cost)) return 0;
  const double share = std::clamp(gain / cost, 0.0, options_.correct_inputs);
  if (share > 0) correction_->apply(static_cast<float>(share), 0, w);
  return share;
}

}  // namespace pith
