#include "runtime/compress/damped_gram.h"

#include <cmath>

namespace pith {

GramDiagonal gram_diagonal(const float* gram, int64_t k) {
  GramDiagonal out;
  double mean = 0;
  int64_t active = 0;
  for (int64_t i = 0; i < k; ++i) {
    const float d = gram[i * k + i];
    if (!std::isfinite(d)) return {};
    out.values.push_back(d);
    mean += static_cast<double>(d);
    active += d > 0;
  }
  if (active == 0) return {};
  mean /= static_cast<double>(active);
  out.unit = 1 / mean;
  for (auto& d : out.values)
    d = d > 0 ? static_cast<float>(static_cast<double>(d) * out.unit) : 1.0f;
  return out;
}

Matrix<double> damped_gram(Algebra& algebra, const float* gram, int64_t k,
                           std::span<const int64_t> order, const GramDiagonal& diagonal,
                           const Damping& damping) {
  Matrix<double> h(algebra, k, k);
  algebra.permute_and_damp(algebra.borrow(gram, k, k), order, diagonal.values,
                           diagonal.unit * (1 - damping.shrink), damping.damping, h);
  return h;
}

Matrix<double> damped_gram(Algebra& algebra, const float* gram, int64_t k, const Damping& damping) {
  std::vector<float> diagonal;
  double mean = 0;
  for (int64_t i = 0; i < k; ++i) {
    diagonal.push_back(gram[i * k + i]);
    mean += static_cast<double>(gram[i * k + i]) / static_cast<double>(k);
  }
  Matrix<double> to(algebra, k, k);
  algebra.permute_and_damp(algebra.borrow(gram, k, k), {}, diagonal, 1 - damping.shrink,
                           damping.damping * mean, to);
  return to;
}

}  // namespace pith
