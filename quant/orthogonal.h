// A random orthogonal matrix Q [n, n] that is fast to multiply with and follows from a seed:
//
//   Q = diag(signs) (H (x) O),   n = 2^a m with m odd
//
// H [2^a, 2^a] is the Hadamard matrix / 2^(a/2) and O [m, m] a random orthogonal one (Gram-Schmidt;
// absent where m = 1). A vector takes n (a + m) operations. All elements are of a size near
// 1/sqrt(n) where m is small, so that a large element of a vector is shared out among all.
//
// Made of +, *, / and square roots in f64 alone: the same numbers on every machine.
#pragma once

#include <cstdint>
#include <vector>

namespace pith {

class Orthogonal {
 public:
  // Matrices of another `stream` are independent. Error(kUnsupported) where m > 2048.
  Orthogonal(int64_t n, uint64_t seed, uint64_t stream);

  int64_t size() const { return static_cast<int64_t>(signs_.size()); }

  // x [n, columns] = Q^T x, in place. What a column becomes does not depend on the others.
  void apply(double* x, int64_t columns) const;

 private:
  int64_t odd_ = 1;            // m
  std::vector<double> signs_;  // +- 2^(-a/2)
  std::vector<double> small_;  // O, or empty
};

}  // namespace pith
