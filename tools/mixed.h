// Mixed precision for `pith quantize`: measures what each choice costs, and chooses for a size or
// a divergence.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/progress.h"
#include "quant/allocate.h"
#include "runtime/compress/plan.h"

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
  // `options.calibration`: windows of the text, or of the sizes that it will have. Error(kUsage)
  // where the target cannot be had with them, so that no minutes are spent on it.
  Mixed(const MixedOptions& o, const ModelSource& source, const QuantizeSettings& settings,
        CompressOptions& options, Progress& progress);

  // Memory that measuring takes.
  uint64_t memory_bytes() const;
  // Measures on the text. For max_kl it sets the last four windows aside, to measure the result on.
  // Measurements are stored in the work folder as they come.
  void measure();

  // The choice for the size; for a divergence, as far as the costs tell.
  QuantizeSettings by_costs();
  // Calls `compress` with settings until the KL of the output on the windows that were kept is
  // between 0.9 of the budget and all of it, at most six times; returns that of the last, which is
  // within the budget. Error(kNumeric) where even the largest choices exceed it.
  double search_for_kl(const std::function<void(const QuantizeSettings&)>& compress);

 private:
  // Windows to measure on, and those that say how the inputs are.
  void cut(std::vector<std::vector<int32_t>>* probes,
           std::vector<std::vector<int32_t>>* some) const;
  Fingerprint about_costs(const std::vector<std::vector<int32_t>>& probes,
                          const std::vector<std::vector<int32_t>>& some) const;
  void choose_for_size();
  QuantizeSettings chosen() const;
  void tell_choice() const;  // printed, and to plan_out
  uint64_t target() const;   // bytes; 0: not asked for
  uint64_t size_with(const QuantizeSettings& settings) const;
  void require_possible() const;
  double measure_result();

  const MixedOptions o_;
  const ModelSource& source_;
  QuantizeSettings settings_;
  CompressOptions& options_;
  Progress& progress_;
  std::vector<Encoding> candidates_;
  std::vector<std::vector<int32_t>> kept_;
  std::vector<AllocationGroup> groups_;
};

}  // namespace pith::tools
