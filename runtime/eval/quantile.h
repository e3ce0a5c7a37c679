// Quantiles of a sample, with errors.
#pragma once

#include <span>

namespace pith {

// The q-quantile, q in [0, 1], of values in ascending order, of which there is at least one; linear
// between two of them (Hyndman and Fan 1996, definition 7).
double quantile(std::span<const double> sorted, double q);

// Standard error of that quantile: half the distance between the quantiles at q - s and q + s, with
// s = sqrt(q (1 - q) / n), the binomial spread of the share of values below it (Woodruff 1952,
// "Confidence intervals for medians and other position measures"). No density is estimated and no
// sample drawn. As the standard error of a mean it takes values as independent; where less than
// about one value lies above, q + s ends at the largest one, and the error is too small.
double quantile_error(std::span<const double> sorted, double q);

}  // namespace pith
