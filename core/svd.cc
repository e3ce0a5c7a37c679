#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/bytes.h"
#include "core/error.h"
#include "core/linalg.h"
#include "core/parallel.h"
#include "core/unit_scale.h"
#include "core/vectors_f64.h"

namespace pith {
namespace {

constexpr int kMaxSweeps = 60;      // it takes 6 to 12
constexpr double kZero = 0x1p-900;  // squares of lengths beside 1 that are rounding errors of 0

// Rows x_i of X [n, n], rotated among each other until they are orthogonal: X' = G X with G
// orthogonal. A row holds x_i and behind it row i of G.
class Jacobi {
 public:
  Jacobi(int64_t n, const double* x) : n_(n), rows_(2 * n * n), squares_(static_cast<size_t>(n)) {
    for (int64_t i = 0; i < n; ++i) {
      std::copy(x + i * n, x + (i + 1) * n, row(i));
      row(i)[n + i] = 1;
    }
  }
  double* row(int64_t i) { return rows_.data() + 2 * i * n_; }

  // All pairs in rounds of n/2 that share no row, as in a tournament: the same rotations for any
  // number of threads.
  void run() {
    const int64_t even = n_ + n_ % 2, pairs = even / 2;
    const int64_t grain = std::max<int64_t>(1, 4096 / n_);
    std::vector<uint8_t> rotated(static_cast<size_t>(pairs));
    for (int sweep = 0; sweep < kMaxSweeps; ++sweep) {
      for (int64_t i = 0; i < n_; ++i) squares_[static_cast<size_t>(i)] = dot(row(i), row(i), n_);
      std::fill(rotated.begin(), rotated.end(), uint8_t{0});
      for (int64_t round = 0; round + 1 < even; ++round) {
        parallel_ranges(pairs, grain, [&](int64_t begin, int64_t end) {
          for (int64_t p = begin; p < end; ++p) {
            const int64_t a = p == 0 ? even - 1 : (round + p) % (even - 1);
            const int64_t b = (round + even - 1 - p) % (even - 1);
            if (std::max(a, b) < n_ && rotate_pair(std::min(a, b), std::max(a, b)))
              rotated[static_cast<size_t>(p)] = 1;
          }
        });
      }
      if (std::ranges::count(rotated, 1) == 0) return;
    }
    fail(ErrorKind::kNumeric, "svd: no convergence in {} sweeps over [{}, {}]", kMaxSweeps, n_, n_);
  }

 private:
  bool rotate_pair(int64_t i, int64_t j) {
    double& a = squares_[static_cast<size_t>(i)];
    double& b = squares_[static_cast<size_t>(j)];
    if (a < kZero || b < kZero) return false;
    const double d = dot(row(i), row(j), n_);
    const double limit = 0x1p-52 * std::sqrt(static_cast<double>(n_));
    if (!(std::fabs(d) > limit * std::sqrt(a) * std::sqrt(b))) return false;
    const double zeta = (b - a) / (2 * d);
    const double t = std::copysign(1 / (std::fabs(zeta) + std::sqrt(1 + zeta * zeta)), zeta);
    const double c = 1 / std::sqrt(1 + t * t);
    rotate(c, c * t, row(i), row(j), 2 * n_);
    a = std::max(0.0, a - t * d);
    b += t * d;
    return true;
  }

  int64_t n_;
  Buffer<double> rows_;  // [n, 2 n]
  std::vector<double> squares_;
};

// Unit vectors in the place of rows of v [n, n] from `first` on, orthogonal to all before them.
void complete(int64_t n, int64_t first, double* v) {
  std::vector<double> covered(static_cast<size_t>(n));  // of each e_k, by the rows so far
  const auto cover = [&](int64_t i) {
    for (int64_t k = 0; k < n; ++k) covered[static_cast<size_t>(k)] += v[i * n + k] * v[i * n + k];
  };
  for (int64_t i = 0; i < first; ++i) cover(i);
  for (int64_t i = first; i < n; ++i) {
    double* row = v + i * n;
    std::fill(row, row + n, 0.0);
    row[std::ranges::min_element(covered) - covered.begin()] = 1;
    for (int pass = 0; pass < 2; ++pass) {  // once leaves what cancellation lost
      for (int64_t j = 0; j < i; ++j) add_scaled(-dot(row, v + j * n, n), v + j * n, row, n);
    }
    const double length = std::sqrt(dot(row, row, n));
    for (int64_t k = 0; k < n; ++k) row[k] /= length;
    cover(i);
  }
}

}  // namespace

Svd svd(MatrixRef<const double> a) {
  if (a.rows < a.columns) {
    Svd of = svd(a.t());
    std::swap(of.u, of.v);
    return of;
  }
  const int64_t m = a.rows, n = a.columns;
  const double scale = unit_scale(a, "svd");
  Buffer<double> q(m * n), r(n * n);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) q[i * n + j] = a(i, j) * scale;
  }
  qr(m, n, q.data(), r.data());
  // G R = diag(s) V^T, so that a = Q R = (Q G^T) diag(s) V^T.
  Jacobi jacobi(n, r.data());
  jacobi.run();
  std::vector<double> length(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    const double square = dot(jacobi.row(i), jacobi.row(i), n);
    length[static_cast<size_t>(i)] = square < kZero ? 0 : std::sqrt(square);
  }
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::greater{},
                           [&](int64_t i) { return length[static_cast<size_t>(i)]; });
  Svd out{Buffer<double>(m * n), {}, Buffer<double>(n * n)};
  Buffer<double> g(n * n), v(n * n);  // rows
  int64_t rank = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t from = order[static_cast<size_t>(i)];
    const double s = length[static_cast<size_t>(from)];
    const double* row = jacobi.row(from);
    std::copy(row + n, row + 2 * n, g.data() + i * n);
    for (int64_t j = 0; j < n && s > 0; ++j) v[i * n + j] = row[j] / s;
    rank += s > 0;
    out.s.push_back(s / scale);
  }
  complete(n, rank, v.data());
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) out.v[j * n + i] = v[i * n + j];
  }
  multiply(1, {q.data(), m, n}, MatrixRef<const double>(g.data(), n, n).t(), 0,
           {out.u.data(), m, n});
  return out;
}

}  // namespace pith
