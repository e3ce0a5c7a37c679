// How much of each layer is pruned, where some bear more than others. Pure functions of what was
// measured; PruneSettings::overrides takes what they return.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace pith {

// OWL (Yin et al. 2024, section 4): the share of weights of a matrix [rows, k] whose |w| ||x||, by
// the root of the mean square of their input, is above `times` the mean of the matrix. Rows w
// [rows, k] of one or several matrices with the same input; mean_square [k].
double outlier_share(std::span<const float> w, std::span<const double> mean_square,
                     double times = 5);

// Ratios by layer within `ratio` +- `spread` (lambda of the paper), falling linearly with the share
// of outliers, whose mean over the weights is `ratio`. `shares` [layers]; `weights` [layers]: of how
// many the ratio is. Where all shares are equal, so are the ratios. The paper's code spreads by
// 2 lambda between the extremes wherever the mean lies, and so leaves the range; this spreads as far
// as the range allows. Error(kUsage) where the range is not within 0 to 1.
std::vector<double> owl_ratios(std::span<const double> shares, std::span<const uint64_t> weights,
                               double ratio, double spread = 0.08);

// The cost of pruning a layer alone, at several ratios.
struct RatioCosts {
  uint64_t weights = 0;        // of the layer
  std::vector<double> ratios;  // ascending
  std::vector<double> costs;   // measured, as a divergence: they are taken to add up
};
// The ratios of least summed cost that drop at least `ratio` of all weights (by
// runtime/compress/allocation.h). Error(kUsage) where even the largest drop less.
std::vector<double> ratios_by_costs(std::span<const RatioCosts> layers, double ratio);

}  // namespace pith
