// The rank of each linear: from a share of its parameters, by hand, or by a budget for all of them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/function_ref.h"
#include "runtime/model/source.h"

namespace pith {

// Patterns of linears and their ranks; of several that match the last counts. A budget's choice is
// such a list by whole names.
using RankOverrides = std::vector<std::pair<std::string, int64_t>>;

// Error(kUsage) naming a pattern whose rank is below zero.
void check_ranks(const RankOverrides& overrides);
// The rank of a linear of a block: that of the last override that matches, else `otherwise`. None
// where it is to be left alone: embedding, head, routers, what `ignore` matches, and rank 0.
std::optional<int64_t> rank_by(const LinearInfo& info, const std::vector<std::string>& ignore,
                               const RankOverrides& overrides, FunctionRef<int64_t()> otherwise);

// Ranks are multiples of this where they are more than it: what kernels take at once.
inline constexpr int64_t kRankStep = 8;

// The largest rank whose factors have at most `share` of the parameters n k.
int64_t rank_for_share(int64_t n, int64_t k, double share);
// Whether factors of this rank have fewer parameters than the matrix.
inline bool saves_parameters(int64_t n, int64_t k, int64_t rank) { return rank * (n + k) < n * k; }

// The loss of a linear by rank, from its singular values.
struct RankCurve {
  std::string name;
  int64_t n = 0, k = 0;
  std::vector<double> squares = {};  // of the singular values of W S, descending
  double norm = 0;                   // the sum of all of them
  // The factor of the relative loss: 1, or a measured divergence over the loss that caused it.
  double weight = 1;
};
struct RankChoice {
  RankOverrides ranks;     // by name; a linear that stays dense has rank 0
  int64_t parameters = 0;  // of all linears, factors or dense
  double loss = 0;         // sum over linears of weight * whitened loss / norm
};
// Ranks (multiples of `step`, at least one) or dense for each linear, so that the parameters are at
// most `budget` and the weighted sum of the relative losses is small. Error(kUsage) naming the smallest that
// is possible, where `budget` is below it.
//
// By the allocation that mixed precision uses (runtime/compress/allocation.h), with parameters in the
// place of bytes. (Without the dense layers taking the steepest gain per parameter first would do,
// for losses fall ever more slowly; staying dense is one large step, which spoils that.) A linear
// with more than 255 ranks is offered every second one, or third, ...
RankChoice choose_ranks(std::span<const RankCurve> curves, int64_t budget,
                        int64_t step = kRankStep);

}  // namespace pith
