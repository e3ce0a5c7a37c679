// The inputs of a linear as pruning sees them: statistics of a calibration text, and the factors
// that follow from them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/compress/damped_gram.h"
#include "runtime/compress/statistics.h"

namespace pith {

// Rounds of conjugate gradients behind sparsegpt, unless told otherwise.
inline constexpr int kRefineRounds = 16;
inline constexpr Damping kPruneDamping = {.damping = 0.1, .shrink = 0};

struct PruneInputs {
  int64_t k = 0;
  std::vector<double> mean_square = {};  // [k]; empty: nothing is known
  // H [k, k], damped, at a mean diagonal of 1, in the memory of `algebra`; empty: not asked for, or
  // not to be had.
  Algebra* algebra = nullptr;
  Matrix<float> gram = {};
  std::vector<float> diagonal = {};  // [k] of it, on the host
  // U sqrt(D) [k, k] with H = U D U^T, U unit upper triangular, on the host; empty as above.
  Buffer<double> factor = {};
  std::string fallback = {};  // why something is missing that was asked for

  // `gram` where `needs` has it, and the factor where `factored` besides. Where the damped matrix is
  // not positive definite, damping increases to 0.1 and to 1, where those are more; `fallback` says
  // so, or that there is no factor.
  static PruneInputs from(Algebra& algebra, const InputStatistics& statistics, int64_t k,
                          const StatisticsNeeds& needs, bool factored, const Damping& damping);

  // Memory in bytes that they take on the host, and of a GPU.
  static uint64_t host_bytes(int64_t k);
  static uint64_t gpu_bytes(int64_t k);
};

}  // namespace pith
