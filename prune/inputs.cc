#include "prune/inputs.h"

#include <utility>

#include "core/error.h"

namespace pith {

PruneInputs PruneInputs::from(Algebra& algebra, const InputStatistics& statistics, int64_t k,
                              const StatisticsNeeds& needs, bool factored, const Damping& wanted) {
  PruneInputs in{.k = k, .algebra = &algebra};
  if (statistics.tokens == 0) {
    in.fallback = "no token of the calibration text came to it";
    return in;
  }
  in.mean_square = statistics.mean_square;
  if (!needs.gram) return in;
  const GramDiagonal diagonal = gram_diagonal(statistics.gram.data(), k);
  if (diagonal.values.empty()) {
    in.mean_square.clear();
    in.fallback = "its inputs are all zero";
    return in;
  }
  for (const double damping : {wanted.damping, 0.1, 1.0}) {
    if (damping < wanted.damping) continue;
    Matrix<double> h =
        damped_gram(algebra, statistics.gram.data(), k, {}, diagonal, {damping, wanted.shrink});
    in.gram = Matrix<float>(algebra, k, k);
    algebra.convert(std::as_const(h).ref(), in.gram);
    in.diagonal.clear();
    for (const float d : diagonal.values) in.diagonal.push_back(d + static_cast<float>(damping));
    if (!factored) return in;
    if (!algebra.cholesky(h)) continue;
    in.factor = algebra.take(std::move(h));
    if (damping != wanted.damping) {
      in.fallback = fmt::format("the Gram matrix of its inputs needed damping {} rather than {}",
                                damping, wanted.damping);
    }
    return in;
  }
  in.gram = {};
  in.fallback = "the Gram matrix of its inputs cannot be factored";
  return in;
}

uint64_t PruneInputs::host_bytes(int64_t k) {
  return static_cast<uint64_t>(k) * static_cast<uint64_t>(k) *
         (4 + 4 + 8);  // statistics, H, factor
}
uint64_t PruneInputs::gpu_bytes(int64_t k) {
  return static_cast<uint64_t>(k) * static_cast<uint64_t>(k) * (4 + 4 + 8);
}

}  // namespace pith
