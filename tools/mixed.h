// Mixed precision for `pith quantize`: measures what each choice costs, and chooses for a size or
// a divergence.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/progress.h"
#include "quant/allocate.h"
#include "runtime/compress/driver.h"

namespace pith::tools {

struct MixedOptions {
  uint64_t target_bytes = 0;  // of the file; 0: not asked for
  double target_bpw = 0;      // of the linears
  double max_kl = 0;
  std::vector<Encoding> candidates;  // empty: the usual ones
  std::string plan_out;
  std::string costs;  // file: where the costs of choices are kept between runs; empty: nowhere
  bool prints = true;
};

class Mixed {
 public:
  // Measures. Takes windows of the calibration text: the first to measure on, and for max_kl the
  // last four out of it, to see what came of it.
  Mixed(const MixedOptions& o, const ModelSource& source, const QuantizeSettings& settings,
        CompressOptions& options, Progress& progress);

  // The choice for the size; for a divergence, as far as the costs tell.
  QuantizeSettings by_costs();
  // Calls `compress` with settings until the KL of the output on the windows that were kept is
  // within 10 % of the budget or less, at most five times; returns the last KL. Error(kNumeric)
  // where even the largest choices exceed the budget.
  double search_for_kl(const std::function<void(const QuantizeSettings&)>& compress);

 private:
  void measure_costs(const std::vector<Encoding>& candidates);
  void choose_for_size();
  QuantizeSettings chosen() const;
  void tell_choice() const;  // printed, and to plan_out
  uint64_t target() const;   // bytes; 0: not asked for
  uint64_t size_with(const QuantizeSettings& settings) const;
  void require_possible(const std::vector<Encoding>& candidates) const;
  double measure_result();

  const MixedOptions o_;
  const ModelSource& source_;
  QuantizeSettings settings_;
  const CompressOptions& options_;
  Progress& progress_;
  std::vector<std::vector<int32_t>> kept_;
  std::vector<AllocationGroup> groups_;
};

}  // namespace pith::tools
