#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/bytes.h"
#include "core/error.h"
#include "core/linalg.h"
#include "core/parallel.h"
#include "core/unit_scale.h"
#include "core/vectors_f64.h"

namespace pith {
namespace {

constexpr int64_t kRows = 16;     // of a matrix on one thread
constexpr int64_t kColumns = 64;  // likewise

// Z = the rows of a basis [n, n], d and e: z a z^T is tridiagonal, d on the diagonal, e[i] between
// i and i + 1.
struct Tridiagonal {
  std::vector<double> d, e;
  Buffer<double> z;
};

// One reflection after the other from both sides. a [n, n] is lost: row k holds the vector of
// reflection k from column k + 1 on.
Tridiagonal tridiagonalize(int64_t n, double* a) {
  const auto at = [](auto& v, int64_t i) -> auto& { return v[static_cast<size_t>(i)]; };
  Tridiagonal t{std::vector<double>(static_cast<size_t>(n)),
                std::vector<double>(static_cast<size_t>(n)), Buffer<double>(n * n)};
  std::vector<double> tau(static_cast<size_t>(n)), w(static_cast<size_t>(n));
  for (int64_t k = 0; k + 1 < n; ++k) {
    double* v = a + k * n + k + 1;
    const int64_t m = n - k - 1;
    const double first = v[0], rest = std::sqrt(dot(v + 1, v + 1, m - 1));
    at(t.e, k) = first;
    if (rest == 0) continue;
    const double length = -std::copysign(std::hypot(first, rest), first);
    at(t.e, k) = length;
    const double by = at(tau, k) = (length - first) / length;
    for (int64_t i = 1; i < m; ++i) v[i] /= first - length;
    v[0] = 1;
    // a -= v w^T + w v^T with w = tau a v - tau^2 / 2 (v^T a v) v
    double* const corner = a + (k + 1) * n + k + 1;
    parallel_ranges(m, kRows, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) at(w, i) = by * dot(corner + i * n, v, m);
    });
    add_scaled(-by / 2 * dot(v, w.data(), m), v, w.data(), m);
    parallel_ranges(m, kRows, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        for (int64_t j = 0; j < m; ++j) corner[i * n + j] -= v[i] * at(w, j) + at(w, i) * v[j];
      }
    });
  }
  for (int64_t i = 0; i < n; ++i) {
    at(t.d, i) = a[i * n + i];
    t.z[i * n + i] = 1;
  }
  // Z = H_(n-2) ... H_0: a reflection changes rows and columns behind its own alone.
  parallel_ranges(n, kRows, [&](int64_t begin, int64_t end) {
    for (int64_t k = n - 2; k >= 0; --k) {
      const double* v = a + k * n + k + 1;
      const int64_t m = n - k - 1;
      if (at(tau, k) == 0) continue;
      for (int64_t i = std::max(begin, k + 1); i < end; ++i) {
        double* row = t.z.data() + i * n + k + 1;
        add_scaled(-at(tau, k) * dot(row, v, m), v, row, m);
      }
    }
  });
  return t;
}

struct Rotation {
  int64_t row;  // and the one behind it
  double c, s;
};

// Diagonal d: QL with implicit shifts, a sweep of rotations at a time.
void diagonalize(int64_t n, Tridiagonal* t) {
  constexpr int kMaxSweeps = 60;  // for one value; it takes 2
  constexpr double kUnit = std::numeric_limits<double>::epsilon();
  double* const d = t->d.data();
  double* const e = t->e.data();
  std::vector<Rotation> rotations;
  for (int64_t l = 0; l < n; ++l) {
    for (int sweep = 0;; ++sweep) {
      int64_t m = l;
      while (m + 1 < n && std::fabs(e[m]) > kUnit * (std::fabs(d[m]) + std::fabs(d[m + 1]))) ++m;
      if (m == l) break;
      if (sweep == kMaxSweeps)
        fail(ErrorKind::kNumeric, "eigenvalues: no convergence in {} sweeps over [{}, {}]",
             kMaxSweeps, n, n);
      const double g0 = (d[l + 1] - d[l]) / (2 * e[l]);
      double g = d[m] - d[l] + e[l] / (g0 + std::copysign(std::hypot(g0, 1), g0));
      double s = 1, c = 1, p = 0;
      rotations.clear();
      int64_t i = m - 1;
      for (; i >= l; --i) {
        const double f = s * e[i], b = c * e[i];
        const double r = e[i + 1] = std::hypot(f, g);
        if (r == 0) {  // the matrix falls apart here
          d[i + 1] -= p;
          e[m] = 0;
          break;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1] - p;
        const double q = (d[i] - g) * s + 2 * c * b;
        p = s * q;
        d[i + 1] = g + p;
        g = c * q - b;
        rotations.push_back({i, c, s});
      }
      if (i < l) {
        d[l] -= p;
        e[l] = g;
        e[m] = 0;
      }
      parallel_ranges(n, kColumns, [&](int64_t begin, int64_t end) {
        for (const Rotation& r : rotations) {
          double* row = t->z.data() + r.row * n + begin;
          rotate(r.c, r.s, row, row + n, end - begin);
        }
      });
    }
  }
}

}  // namespace

SymmetricEigen symmetric_eigen(int64_t n, const double* a) {
  Buffer<double> full(n * n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i; j < n; ++j) full[i * n + j] = full[j * n + i] = a[i * n + j];
  }
  const double scale = unit_scale({full.data(), n, n}, "eigenvalues");
  for (double& v : full) v *= scale;
  Tridiagonal t = tridiagonalize(n, full.data());
  diagonalize(n, &t);
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::greater{},
                           [&](int64_t i) { return t.d[static_cast<size_t>(i)]; });
  SymmetricEigen out{{}, Buffer<double>(n * n)};
  for (int64_t i = 0; i < n; ++i) {
    const int64_t from = order[static_cast<size_t>(i)];
    out.values.push_back(t.d[static_cast<size_t>(from)] / scale);
    std::copy(&t.z[from * n], &t.z[from * n] + n, &out.vectors[i * n]);
  }
  return out;
}

}  // namespace pith
