// The Gram matrix of inputs as methods factor it: at a mean diagonal of 1, so that neither tiny nor
// huge inputs leave the range of f32, shrunk towards its diagonal, and damped.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/algebra/algebra.h"

namespace pith {

struct Damping {
  double damping = 0.3;  // of the mean of the diagonal, added to it
  // 0 to 1: by how much what is off the diagonal is reduced. How channels go together is peculiar
  // to the calibration text more than how large they are (shrinkage: Ledoit and Wolf 2004).
  double shrink = 0.2;

  friend bool operator==(const Damping&, const Damping&) = default;
};

// The diagonal of a Gram matrix at a mean of 1 over the columns that were active; one that never
// was counts as an average one.
struct GramDiagonal {
  std::vector<float> values;  // [k]; empty where the diagonal is not finite, or all zero
  double unit = 0;            // by which it was multiplied
};
GramDiagonal gram_diagonal(const float* gram, int64_t k);

// gram [k, k] on the host, to a matrix of the algebra in f64: element (i, j) is that of
// (order[i], order[j]); without an order, things stay in place.
Matrix<double> damped_gram(Algebra& algebra, const float* gram, int64_t k,
                           std::span<const int64_t> order, const GramDiagonal& diagonal,
                           const Damping& damping);

// The same in its own units and order; a column that was never active has the damping alone.
Matrix<double> damped_gram(Algebra& algebra, const float* gram, int64_t k, const Damping& damping);

}  // namespace pith
