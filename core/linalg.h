// Dense linear algebra in f64: blocked Cholesky, in tiles of a fixed size that the pool's threads
// share out, so that results do not depend on the number of threads. Matrices are row-major.
//
// Our own rather than a BLAS: OpenBLAS starts threads when it is loaded, takes 128 MB for each, and
// under a limit on memory tries that for ever.
#pragma once

#include <cstdint>

namespace pith {

// a [n, n] symmetric, only its upper triangle is read: a = U U^T with U upper triangular, in
// place; what is below the diagonal is then unspecified. False where a is not positive definite
// (or not finite): its content is lost then.
bool upper_cholesky(int64_t n, double* a);

// Solves a x = b for `columns` right sides, b [columns, n] (a right side is a row), in place; a [n,
// n] symmetric, upper triangle read, is lost. False where a is not positive definite.
bool solve_positive(int64_t n, double* a, int64_t columns, double* b);

}  // namespace pith
