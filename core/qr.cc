#include <cmath>

#include "core/bytes.h"
#include "core/linalg.h"
#include "core/parallel.h"
#include "core/unit_scale.h"
#include "core/vectors_f64.h"

namespace pith {
namespace {

constexpr int64_t kPanel = 32;    // columns that earlier reflections are applied to together
constexpr int64_t kTogether = 8;  // of those on one thread: one read of a reflection serves them

// A matrix by columns, so that reflections run over neighbours. H_j = I - tau_j v_j v_j^T, where
// v_j is 0 above element j and 1 there; it overwrites column j below the diagonal.
class Reflections {
 public:
  Reflections(int64_t m, int64_t n, double* columns)
      : m_(m), columns_(columns), tau_(static_cast<size_t>(n)) {}

  // Column j becomes R's above and on the diagonal, which is returned, and v_j below it.
  double make(int64_t j) {
    double* x = column(j) + j;
    const int64_t n = m_ - j;
    const double below = std::sqrt(dot(x + 1, x + 1, n - 1));
    const double first = x[0];
    if (below == 0) return first;
    const double length = -std::copysign(std::hypot(first, below), first);
    tau_[static_cast<size_t>(j)] = (length - first) / length;
    for (int64_t i = 1; i < n; ++i) x[i] /= first - length;
    x[0] = 1;
    return length;
  }
  void apply(int64_t j, double* to) const {
    const double tau = tau_[static_cast<size_t>(j)];
    if (tau == 0) return;
    const double* v = column(j) + j;
    add_scaled(-tau * dot(v, to + j, m_ - j), v, to + j, m_ - j);
  }
  double* column(int64_t j) const { return columns_ + j * m_; }

 private:
  int64_t m_;
  double* columns_;
  std::vector<double> tau_;
};

}  // namespace

void qr(int64_t m, int64_t n, double* a, double* r) {
  if (m < n) fail(ErrorKind::kUsage, "qr: {} rows are fewer than {} columns", m, n);
  const double scale = unit_scale({a, m, n}, "qr");
  Buffer<double> columns(m * n), q(m * n);
  parallel_ranges(n, kTogether, [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) {
      for (int64_t i = 0; i < m; ++i) columns[j * m + i] = a[i * n + j] * scale;
    }
  });
  Reflections h(m, n, columns.data());
  std::vector<double> diagonal(static_cast<size_t>(n));
  for (int64_t panel = 0; panel < n; panel += kPanel) {
    const int64_t end = std::min(n, panel + kPanel);
    parallel_ranges(end - panel, kTogether, [&](int64_t from, int64_t to) {
      for (int64_t j = 0; j < panel; ++j) {
        for (int64_t c = from; c < to; ++c) h.apply(j, h.column(panel + c));
      }
    });
    for (int64_t j = panel; j < end; ++j) {
      diagonal[static_cast<size_t>(j)] = h.make(j);
      for (int64_t c = j + 1; c < end; ++c) h.apply(j, h.column(c));
    }
  }
  parallel_ranges(n, kTogether, [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) {
      q[j * m + j] = 1;
      for (int64_t i = 0; i < n; ++i)
        r[i * n + j] = (i < j    ? columns[j * m + i]
                        : i == j ? diagonal[static_cast<size_t>(j)]
                                 : 0) /
                       scale;
    }
    // Reflections behind j leave e_j as it is.
    for (int64_t i = end - 1; i >= 0; --i) {
      for (int64_t j = std::max(begin, i); j < end; ++j) h.apply(i, q.data() + j * m);
    }
    for (int64_t j = begin; j < end; ++j) {
      for (int64_t i = 0; i < m; ++i) a[i * n + j] = q[j * m + i];
    }
  });
}

}  // namespace pith
