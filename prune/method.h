// The methods of pruning single weights, and the table that lists them.
//
// All of them drop, within a comparison group, the weights of the least saliency w_j^2 c_j, and
// differ in the cost c_j of a channel:
//
//   magnitude  1
//   wanda      mean of x_j^2                       (Sun et al. 2024, equation 1, squared)
//   sparsegpt  D_j = 1 / [H^-1 of columns j, j+1, ...]_jj, H the mean of x x^T: what dropping w_j
//              costs after the columns behind it made up for it as well as they can
//              (Frantar and Alistarh 2023, equation 3)
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "prune/inputs.h"

namespace pith {

struct PruneMethod {
  const char* name;
  const char* summary;
  StatisticsNeeds needs;
  int refine;     // rounds of refinement, where nothing is said
  bool makes_up;  // later columns make up for those that are dropped
  std::vector<double> (*costs)(const PruneInputs& inputs);  // [k]
};

std::span<const PruneMethod> prune_methods();
// Error(kUsage) with the nearest name, and all of them.
const PruneMethod& parse_prune_method(std::string_view name);

}  // namespace pith
