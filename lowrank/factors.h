// The low-rank factors of a matrix that lose least for given inputs.
//
// For inputs x with H = mean of x x^T = S S^T, replacing m [n, k] by b costs
//   mean |m x - b x|^2 = |(m - b) S|_F^2,
// the whitened loss, and of all b of rank r that is least where b S is the truncated singular value
// decomposition U_r Sigma_r V_r^T of m S (Eckart and Young 1936); its loss is then the sum of the
// squares of the singular values that were dropped. SVD-LLM (Wang et al. 2025, equations 3 to 6)
// writes the factors as U Sigma^1/2 and Sigma^1/2 V^T S^-1. Since U_r Sigma_r V_r^T = U_r U_r^T m S,
// the same product is
//   b = up w,   up = U_r,   w = U_r^T m,
// which needs no inverse: a singular H is no special case, and an input channel that was never
// active keeps what the projection leaves of its weights rather than zeros. The columns of `up`
// have one length: where it is rounded in groups along them, no channel's step is set by a larger
// one.
//
// S is the Cholesky factor of H, or where H is singular V Lambda^1/2 of its eigenvectors (SVD-LLM
// v2, Wang et al. 2025). Without a text S is the identity: plain SVD.
#pragma once

#include <string>
#include <vector>

#include "runtime/compress/damped_gram.h"

namespace pith {

// S of the inputs of a stage, in the memory of an algebra.
class Whitening {
 public:
  Whitening() = default;  // S = I
  // gram [k, k] on the host, taken as `damping` says. Error(kNumeric) where it is not finite.
  Whitening(Algebra& algebra, const float* gram, int64_t k, const Damping& damping);

  bool plain() const { return root_.empty(); }
  // m S for m [n, k], in f64.
  Matrix<double> apply(Algebra& algebra, MatrixRef<const float> m) const;
  // By eigenvectors, because H has no Cholesky factor.
  bool singular() const { return singular_; }

 private:
  Matrix<double> root_;
  bool singular_ = false;
};

struct Factors {
  Matrix<double> up, w;  // [n, r], [r, k]
  double loss = 0;       // whitened
  double norm = 0;       // |m S|^2
};

// The factors of rank r, 1 to min(n, k), of m [n, k]. Singular vectors are those of m S (m S)^T or its
// transpose, the smaller of both, up to kExactSide rows or where the rank is a quarter of them;
// else by Algebra::svd's range finder, whose loss may be a few percent above the least.
inline constexpr int64_t kExactSide = 1024;
Factors best_factors(Algebra& algebra, MatrixRef<const float> m, const Whitening& whitening,
                     int64_t rank);

// All singular values of m S, descending: min(n, k). Exact to 1e-8 of the largest.
std::vector<double> whitened_spectrum(Algebra& algebra, MatrixRef<const float> m,
                                      const Whitening& whitening);

// Working memory of the above in bytes, where the algebra works, for H of k columns and m [n, k].
uint64_t factors_bytes(int64_t n, int64_t k);

}  // namespace pith
