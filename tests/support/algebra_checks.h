// What every Algebra promises, against f64 on the host.
#pragma once

#include "runtime/algebra/algebra.h"

namespace pith::test {

// In shares of the size of what is added: `unit_f32` is what one product in f32 may be off.
void check_products(Algebra& algebra, double unit_f32);
// Running means; `unit` of one factor.
void check_means(Algebra& algebra, double unit);
// Cholesky, triangular systems, permuting and damping.
void check_systems(Algebra& algebra);
// QR of matrices of every rank, singular values (all, and the largest ones), eigenvalues.
void check_decompositions(Algebra& algebra);
// Matrices that are borrowed, grow, and are taken to the host.
void check_memory(Algebra& algebra);

}  // namespace pith::test
