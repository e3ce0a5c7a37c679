#include "lowrank/factors.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace pith {
namespace {

double sum_of_squares(Algebra& algebra, const Matrix<double>& a) {
  Buffer<double> host(a.size());
  algebra.download(a.ref(), host.data());
  double sum = 0;
  for (const double v : host) sum += v * v;
  return sum;
}

// Eigenvalues, descending, and eigenvectors (rows) of a a^T or of a^T a, whichever is smaller.
struct SmallGram {
  std::vector<double> values;
  Matrix<double> vectors;
};
SmallGram small_gram(Algebra& algebra, const Matrix<double>& a) {
  const bool left = a.rows() <= a.columns();
  const int64_t side = std::min(a.rows(), a.columns());
  Matrix<double> gram(algebra, side, side);
  algebra.gemm(1, left ? a.ref() : a.t(), left ? a.t() : a.ref(), 0, gram);
  auto [values, vectors] = algebra.symmetric_eigen(gram);
  return {std::move(values), std::move(vectors)};
}

// The left singular vectors of a [n, k] for the largest `rank` values: [n, rank].
Matrix<double> left_vectors(Algebra& algebra, const Matrix<double>& a, int64_t rank) {
  const int64_t n = a.rows(), k = a.columns(), side = std::min(n, k);
  if (side > kExactSide && 4 * rank < side) return algebra.svd(a, rank, 4).u;
  const SmallGram small = small_gram(algebra, a);
  if (n > k) {
    // a V has orthogonal columns; QR keeps them so where a singular value is next to nothing.
    Matrix<double> u(algebra, n, rank);
    algebra.gemm(1, a, small.vectors.row_block(0, rank).t(), 0, u);
    algebra.qr(u);
    return u;
  }
  Buffer<double> rows(rank * n), columns(rank * n);
  algebra.download(small.vectors.row_block(0, rank), rows.data());
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < rank; ++j) columns[i * rank + j] = rows[j * n + i];
  }
  return {algebra, n, rank, columns.data()};
}

}  // namespace

Whitening::Whitening(Algebra& algebra, const float* gram, int64_t k, const Damping& damping) {
  for (int64_t i = 0; i < k * k; ++i) {
    if (!std::isfinite(gram[i])) fail(ErrorKind::kNumeric, "a Gram matrix is not finite");
  }
  root_ = damped_gram(algebra, gram, k, damping);
  if (algebra.cholesky(root_)) {
    // Only its upper triangle is specified.
    Buffer<double> host(k * k);
    algebra.download(root_.ref(), host.data());
    for (int64_t i = 0; i < k; ++i) std::fill_n(&host[i * k], i, 0.0);
    algebra.upload(host.data(), root_.ref());
    return;
  }
  singular_ = true;
  const auto [values, vectors] = algebra.symmetric_eigen(damped_gram(algebra, gram, k, damping));
  Buffer<double> rows(k * k), root(k * k);
  algebra.download(vectors.ref(), rows.data());
  for (int64_t i = 0; i < k; ++i) {
    const double scale = std::sqrt(std::max(0.0, values[static_cast<size_t>(i)]));
    for (int64_t j = 0; j < k; ++j) root[j * k + i] = rows[i * k + j] * scale;
  }
  root_ = Matrix<double>(algebra, k, k, root.data());
}

Matrix<double> Whitening::apply(Algebra& algebra, MatrixRef<const float> m) const {
  Matrix<double> wide(algebra, m.rows, m.columns);
  algebra.convert(m, wide);
  if (plain()) return wide;
  Matrix<double> a(algebra, m.rows, m.columns);
  algebra.gemm(1, wide, root_, 0, a);
  return a;
}

Factors best_factors(Algebra& algebra, MatrixRef<const float> m, const Whitening& whitening,
                     int64_t rank) {
  if (rank < 1 || rank > std::min(m.rows, m.columns))
    fail(ErrorKind::kUsage, "rank {} of a matrix [{}, {}]", rank, m.rows, m.columns);
  Factors out;
  Matrix<double> kept(algebra, rank, m.columns);
  {
    const Matrix<double> a = whitening.apply(algebra, m);
    out.norm = sum_of_squares(algebra, a);
    if (!std::isfinite(out.norm)) fail(ErrorKind::kNumeric, "weights that are not finite");
    out.up = left_vectors(algebra, a, rank);
    algebra.gemm(1, out.up.t(), a, 0, kept);
    // The error is orthogonal to the approximation.
    out.loss = std::max(0.0, out.norm - sum_of_squares(algebra, kept));
  }
  Matrix<double> wide(algebra, m.rows, m.columns);
  algebra.convert(m, wide);
  out.w = std::move(kept);
  algebra.gemm(1, out.up.t(), wide, 0, out.w);
  return out;
}

std::vector<double> whitened_spectrum(Algebra& algebra, MatrixRef<const float> m,
                                      const Whitening& whitening) {
  std::vector<double> s = small_gram(algebra, whitening.apply(algebra, m)).values;
  for (double& v : s) v = std::sqrt(std::max(0.0, v));
  return s;
}

uint64_t factors_bytes(int64_t n, int64_t k) {
  const auto rows = static_cast<uint64_t>(n), columns = static_cast<uint64_t>(k);
  const uint64_t side = std::min(rows, columns);
  // S and what it is made of; m in f32 and f64, m S; the small Gram matrix and its eigenvectors.
  return 3 * columns * columns * sizeof(double) + 4 * rows * columns * sizeof(double) +
         5 * side * side * sizeof(double);
}

}  // namespace pith
