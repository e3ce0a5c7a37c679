// Which of its options each of several parts of a model gets, for a size or a cost that is asked for:
// types of layers (quant/allocate.h), shares of weights that are pruned (prune/ratios.h), ranks.
// Costs of parts (divergences) are taken to add up. The choice is then the best there is, by dynamic
// programming over the bytes in 65,536 steps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace pith {

struct AllocationOption {
  uint64_t bytes = 0;
  double cost = 0;
};
using AllocationOptions = std::vector<AllocationOption>;  // of one part, by bytes, ascending; some

struct Allocation {
  std::vector<size_t> chosen;  // option of each part
  bool within = false;         // the budget; else the smallest (of bytes), the largest (of cost)
};

// Bytes of at most `budget` and a small sum of costs.
Allocation allocate_within_bytes(std::span<const AllocationOptions> parts, uint64_t budget);
// Few bytes and costs of at most `budget`.
Allocation allocate_within_cost(std::span<const AllocationOptions> parts, double budget);

}  // namespace pith
