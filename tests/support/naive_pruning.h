// Pruning as its papers write it, in plain loops of double: what the library is held against.
#pragma once

#include <cstdint>
#include <vector>

#include "formats/encodings/sparse.h"
#include "runtime/compress/damped_gram.h"

namespace pith::test {

using Matrix64 = std::vector<double>;  // row-major

// Mean of x x^T [k, k], brought to a mean diagonal of 1, shrunk and damped; channels without any
// input count as average ones.
Matrix64 naive_damped(const std::vector<float>& gram, int64_t k, const Damping& damping);
Matrix64 naive_inverse(Matrix64 a, int64_t k);

struct NaivePruned {
  std::vector<char> kept;  // [n, k]
  Matrix64 w;              // [n, k]
};

// By saliency w^2 cost: the least of each row, or of all but n of m columns.
NaivePruned naive_by_saliency(const std::vector<float>& w, int64_t n, int64_t k,
                              const Matrix64& cost, const Sparsity& sparsity);
// Optimal brain surgeon column after column: a dropped weight moves all that are behind it by its
// row of the inverse of h, from which its column is then eliminated (SparseGPT, equations 2 and 3).
// How many of each 32 columns are dropped is what saliency w^2 / [h^-1]_jj of the weights as they
// were has there; `dead` columns have none.
NaivePruned naive_sparsegpt(const std::vector<float>& w, int64_t n, int64_t k, const Matrix64& h,
                            const std::vector<char>& dead, const Sparsity& sparsity);
// The kept weights that lose least, by the normal equations of each row.
Matrix64 naive_refined(const std::vector<float>& w, int64_t n, int64_t k, const Matrix64& h,
                       const std::vector<char>& kept);
// (w - q) h (w - q)^T of a row.
double naive_loss(const float* w, const double* q, int64_t k, const Matrix64& h);

}  // namespace pith::test
