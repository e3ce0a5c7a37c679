// Mixed precision for `pith quantize`: measures what each choice costs, and chooses for a size or
// a divergence.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/json.h"
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
  // "a file of at most 80.0 MB"
  std::string goal() const;
  // The largest choice for every layer; the largest plan that the target allows is made of it.
  QuantizeSettings largest() const;
  CompressPlan plan() const;
  // Whether even the largest choices are below the target. Nothing is measured then.
  bool is_loose() const { return loose_; }
  std::string loose_text() const;
  // "14 groups of layers in 12 types, ...": what measure() will do.
  std::string measuring_text() const;
  Json measuring_json() const;
  // Whether measure() finds all costs in --costs.
  bool has_costs() const;
  // Measures on the text. For max_kl it sets the last four windows aside, to measure the result on.
  // Measurements are stored in the work folder as they come.
  void measure();

  // The choice for the size: printed, and written to --plan-out; for a divergence, as far as the
  // costs tell.
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
  QuantizeSettings extreme(bool largest) const;
  QuantizeSettings chosen() const;
  // Printed, and to plan_out.
  void tell_choice(const std::vector<std::pair<std::string, Encoding>>& choice) const;
  uint64_t target() const;  // bytes; 0: not asked for
  uint64_t size_with(const QuantizeSettings& settings) const;
  void require_possible() const;
  double measure_result();

  const MixedOptions o_;
  const ModelSource& source_;
  QuantizeSettings settings_;
  CompressOptions& options_;
  Progress& progress_;
  std::vector<Encoding> candidates_;
  bool loose_ = false;
  std::vector<std::vector<int32_t>> kept_;
  std::vector<AllocationGroup> groups_;
};

}  // namespace pith::tools
