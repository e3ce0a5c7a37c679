// Dense linear algebra in f64 on the host: products, Cholesky, QR, singular values, eigenvalues of
// symmetric matrices. Work is cut into tiles of a fixed size that the pool's threads share out, so
// that results are the same bits for any number of threads. Matrices are row-major.
//
// Our own rather than a BLAS: OpenBLAS starts threads when it is loaded, takes 128 MB for each, and
// under a limit on memory tries that for ever.
#pragma once

#include <cstdint>
#include <vector>

#include "core/buffer.h"
#include "core/matrix.h"

namespace pith {

// c [m, n] = beta c + alpha a b, with a [m, k] and b [k, n] or transposes of what lies there; with
// beta 0, c is not read. c overlaps neither and is not transposed. Sums are taken in order of k.
void multiply(double alpha, MatrixRef<const double> a, MatrixRef<const double> b, double beta,
              MatrixRef<double> c);

// a [n, n] symmetric, only its upper triangle is read: a = U U^T with U upper triangular, in
// place; what is below the diagonal is then unspecified. False where a is not positive definite
// (or not finite): its content is lost then.
[[nodiscard]] bool upper_cholesky(int64_t n, double* a);

// Solves x U = b, or x U^T = b where `transposed`, for rows b [rows, n] in place; u [n, n] without
// zeros on its diagonal, of which the upper triangle is read.
void solve_upper(int64_t n, const double* u, bool transposed, int64_t rows, double* b);

// a [m, n] = Q R with m >= n: Q [m, n] with orthonormal columns takes the place of a, r [n, n] is
// upper triangular. Householder reflections (Golub and Van Loan, Matrix Computations, 5.2), so that
// Q is orthonormal to rounding whatever the rank of a. Error(kNumeric) where a is not finite.
void qr(int64_t m, int64_t n, double* a, double* r);

// a [m, n] = U diag(s) V^T with p = min(m, n).
struct Svd {
  Buffer<double> u;       // [m, p], orthonormal columns
  std::vector<double> s;  // [p], descending, >= 0
  Buffer<double> v;       // [n, p], orthonormal columns
};
// One-sided Jacobi on the triangle of a QR factorization (Hestenes 1958; Drmac and Veselic 2008):
// for matrices with up to some hundred columns or rows, 10 m p^2 operations and more. Singular
// values to a few units in the last place of the largest. Error(kNumeric) where a is not finite.
Svd svd(MatrixRef<const double> a);

// a [n, n] symmetric = sum of values[i] v_i v_i^T, where row i of `vectors` is v_i.
struct SymmetricEigen {
  std::vector<double> values;  // [n], descending
  Buffer<double> vectors;      // [n, n]
};
// Householder tridiagonalization, then QL with implicit shifts (Bowdler, Martin, Reinsch and
// Wilkinson 1968). The upper triangle of a is read. Error(kNumeric) where it is not finite.
SymmetricEigen symmetric_eigen(int64_t n, const double* a);

}  // namespace pith
