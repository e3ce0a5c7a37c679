// A term up (w x) of a linear, and the weights that it is made of.
#pragma once

#include "lowrank/factors.h"
#include "runtime/model/form.h"

namespace pith {

// Weights [n, k] of a linear, f32 in the memory of the algebra. Error(kNumeric) naming the first
// that is not finite.
Matrix<float> weights_of(Algebra& algebra, const Linear& linear);

// The factors in their encodings, by plain rounding. Error(kNumeric) naming the linear where a
// number does not fit.
Term low_rank_term(Algebra& algebra, const Factors& factors, const TermForm& form,
                   const std::string& linear);

}  // namespace pith
