#include "runtime/algebra/algebra.h"

#include <algorithm>

#include "core/bytes.h"
#include "core/error.h"
#include "core/linalg.h"
#include "core/parallel.h"
#include "core/rng.h"

namespace pith {

void Algebra::require_contiguous(bool is) {
  if (!is) fail(ErrorKind::kUsage, "a matrix whose rows have gaps, where none may be");
}

void Algebra::reserve_rows(int64_t kept, int64_t rows, int64_t columns, Matrix<float>* m) {
  if (rows <= m->rows()) return;
  Matrix<float> larger(*this, std::max(rows, 2 * m->rows()), columns);
  if (kept > 0) copy(m->row_block(0, kept), larger.row_block(0, kept));
  *m = std::move(larger);
}

bool Algebra::solve_positive(Matrix<double>& a, MatrixRef<double> b) {
  if (!cholesky(a)) return false;
  solve_upper(a, true, b);
  solve_upper(a, false, b);
  return true;
}

namespace {

// The first `count` columns of a, on the host.
Buffer<double> first_columns(MatrixRef<const double> a, int64_t count) {
  Buffer<double> to(a.rows * count);
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j < count; ++j) to[i * count + j] = a(i, j);
  }
  return to;
}

}  // namespace

LowRank Algebra::svd(MatrixRef<const double> a) {
  const auto plain = a.transposed ? a.t() : a;
  Buffer<double> host(a.rows * a.columns);
  download(plain, host.data());
  const MatrixRef<const double> here(host.data(), plain.rows, plain.columns);
  Svd f = pith::svd(a.transposed ? here.t() : here);
  const auto p = static_cast<int64_t>(f.s.size());
  return {{*this, a.rows, p, f.u.data()}, {*this, a.columns, p, f.v.data()}, std::move(f.s)};
}

LowRank Algebra::svd(MatrixRef<const double> a, int64_t rank, int power, uint64_t seed) {
  constexpr int64_t kMore = 10;
  const int64_t m = a.rows, n = a.columns, most = std::min(m, n);
  if (rank < 1 || rank > most)
    fail(ErrorKind::kUsage, "svd: rank {} of a matrix [{}, {}]", rank, m, n);
  const int64_t l = std::min(rank + kMore, most);
  Buffer<double> probe(n * l);
  const Rng rng(seed);
  for (int64_t i = 0; i < n * l; ++i) probe[i] = rng.uniform_at(static_cast<uint64_t>(i)) * 2 - 1;
  // a ~ y y^T a for a basis y [m, l] of the range of a (a^T a)^power, and a^T y = z r.
  Matrix<double> y(*this, m, l), z(*this, n, l, probe.data());
  Matrix<double> r;
  for (int i = 0; i <= power; ++i) {
    gemm(1, a, z, 0, y);
    qr(y);
    gemm(1, a.t(), y, 0, z);
    r = qr(z);
  }
  const Buffer<double> small = take(std::move(r));
  Svd f = pith::svd(MatrixRef<const double>(small.data(), l, l).t());
  const Buffer<double> left = first_columns({f.u.data(), l, l}, rank),
                       right = first_columns({f.v.data(), l, l}, rank);
  const auto of_left = borrow(left.data(), l, rank), of_right = borrow(right.data(), l, rank);
  LowRank out{{*this, m, rank}, {*this, n, rank}, std::move(f.s)};
  out.s.resize(static_cast<size_t>(rank));
  gemm(1, y, of_left, 0, out.u);
  gemm(1, z, of_right, 0, out.v);
  return out;
}

std::pair<std::vector<double>, Matrix<double>> Algebra::symmetric_eigen(const Matrix<double>& a) {
  Buffer<double> host(a.size());
  download(a.ref(), host.data());
  SymmetricEigen f = pith::symmetric_eigen(a.rows(), host.data());
  return {std::move(f.values), Matrix<double>(*this, a.rows(), a.rows(), f.vectors.data())};
}

void mirror_upper(int64_t n, float* a) {
  constexpr int64_t kSide = 64;  // so that both sides of the mirror lie in a cache
  parallel_for(ceil_div(n, kSide), [&](int64_t band) {
    const int64_t row0 = band * kSide, row_end = std::min(n, row0 + kSide);
    for (int64_t column0 = 0; column0 <= row0; column0 += kSide) {
      for (int64_t r = row0; r < row_end; ++r) {
        for (int64_t c = column0; c < std::min(r, column0 + kSide); ++c)
          a[r * n + c] = a[c * n + r];
      }
    }
  });
}

}  // namespace pith
