#include "quant/orthogonal.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "core/error.h"
#include "core/rng.h"

namespace pith {
namespace {

constexpr int64_t kLargestOdd = 2048;

// Close to a normal distribution, and free of functions that libraries round differently.
double near_normal(Rng& rng) {
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += rng.uniform();
  return sum;
}

double product(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// Rows made orthogonal to those before them, twice: once leaves what cancellation lost.
std::vector<double> random_orthogonal(int64_t n, Rng& rng) {
  std::vector<double> q(static_cast<size_t>(n * n));
  for (int64_t i = 0; i < n;) {
    double* row = q.data() + i * n;
    for (double& v : std::span(row, static_cast<size_t>(n))) v = near_normal(rng);
    const double before = product(row, row, n);
    for (int pass = 0; pass < 2; ++pass) {
      for (int64_t j = 0; j < i; ++j) {
        const double* other = q.data() + j * n;
        const double share = product(row, other, n);
        for (int64_t c = 0; c < n; ++c) row[c] -= share * other[c];
      }
    }
    const double after = product(row, row, n);
    if (!(after > 1e-12 * before)) continue;  // all but dependent: drawn again
    const double length = std::sqrt(after);
    for (int64_t c = 0; c < n; ++c) row[c] /= length;
    ++i;
  }
  return q;
}

}  // namespace

Orthogonal::Orthogonal(int64_t n, uint64_t seed, uint64_t stream) {
  if (n < 1) fail(ErrorKind::kUsage, "a rotation of size {}", n);
  const int64_t power = n & -n;  // 2^a
  odd_ = n / power;
  if (odd_ > kLargestOdd) {
    fail(ErrorKind::kUnsupported, "a rotation of size {}: its odd factor {} is larger than {}", n,
         odd_, kLargestOdd);
  }
  Rng rng(seed, stream);
  const double length = 1 / std::sqrt(static_cast<double>(power));
  signs_.resize(static_cast<size_t>(n));
  for (double& s : signs_) s = rng.next() >> 63 ? -length : length;
  if (odd_ > 1) small_ = random_orthogonal(odd_, rng);
}

void Orthogonal::apply(double* x, int64_t columns) const {
  const int64_t n = size(), width = odd_ * columns;
  for (int64_t i = 0; i < n; ++i) {
    const double sign = signs_[static_cast<size_t>(i)];
    for (int64_t c = 0; c < columns; ++c) x[i * columns + c] *= sign;
  }
  for (int64_t half = width; half < n * columns; half *= 2) {
    for (int64_t begin = 0; begin < n * columns; begin += 2 * half) {
      double* a = x + begin;
      double* b = a + half;
      for (int64_t i = 0; i < half; ++i) {
        const double sum = a[i] + b[i];
        b[i] = a[i] - b[i];
        a[i] = sum;
      }
    }
  }
  if (small_.empty()) return;
  std::vector<double> block(static_cast<size_t>(width));
  for (int64_t begin = 0; begin < n * columns; begin += width) {
    double* to = x + begin;
    std::copy(to, to + width, block.begin());
    std::fill(to, to + width, 0.0);
    for (int64_t i = 0; i < odd_; ++i) {
      for (int64_t j = 0; j < odd_; ++j) {
        const double factor = small_[static_cast<size_t>(i * odd_ + j)];
        for (int64_t c = 0; c < columns; ++c)
          to[j * columns + c] += factor * block[static_cast<size_t>(i * columns + c)];
      }
    }
  }
}

}  // namespace pith
