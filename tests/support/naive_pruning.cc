#include "tests/support/naive_pruning.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace pith::test {
namespace {

size_t at(int64_t i) { return static_cast<size_t>(i); }

// Drops the least `count` of columns [begin, end) of a row, of equal ones the right.
void drop(std::vector<char>& kept, int64_t row_begin, int64_t begin, int64_t end, int64_t count,
          const std::vector<double>& saliency) {
  std::vector<int64_t> order(at(end - begin));
  std::iota(order.begin(), order.end(), begin);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return saliency[at(a)] < saliency[at(b)] || (saliency[at(a)] == saliency[at(b)] && a > b);
  });
  for (int64_t i = 0; i < count; ++i) kept[at(row_begin + order[at(i)])] = 0;
}

// Solves a x = b by elimination with pivots.
std::vector<double> solve(Matrix64 a, std::vector<double> b) {
  const auto n = std::ssize(b);
  for (int64_t c = 0; c < n; ++c) {
    int64_t pivot = c;
    for (int64_t r = c; r < n; ++r) {
      if (std::fabs(a[at(r * n + c)]) > std::fabs(a[at(pivot * n + c)])) pivot = r;
    }
    for (int64_t i = 0; i < n; ++i) std::swap(a[at(c * n + i)], a[at(pivot * n + i)]);
    std::swap(b[at(c)], b[at(pivot)]);
    for (int64_t r = 0; r < n; ++r) {
      if (r == c) continue;
      const double f = a[at(r * n + c)] / a[at(c * n + c)];
      for (int64_t i = c; i < n; ++i) a[at(r * n + i)] -= f * a[at(c * n + i)];
      b[at(r)] -= f * b[at(c)];
    }
  }
  for (int64_t c = 0; c < n; ++c) b[at(c)] /= a[at(c * n + c)];
  return b;
}

}  // namespace

Matrix64 naive_damped(const std::vector<float>& gram, int64_t k, const Damping& damping) {
  double sum = 0;
  int64_t active = 0;
  for (int64_t i = 0; i < k; ++i) {
    sum += static_cast<double>(gram[at(i * k + i)]);
    active += gram[at(i * k + i)] > 0;
  }
  const double unit = static_cast<double>(active) / sum;
  Matrix64 h(at(k * k));
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t j = 0; j < k; ++j) {
      const double v = static_cast<double>(gram[at(i * k + j)]) * unit;
      h[at(i * k + j)] = i != j ? v * (1 - damping.shrink) : (v > 0 ? v : 1) + damping.damping;
    }
  }
  return h;
}

Matrix64 naive_inverse(Matrix64 a, int64_t k) {
  Matrix64 inverse(at(k * k));
  for (int64_t i = 0; i < k; ++i) inverse[at(i * k + i)] = 1;
  for (int64_t c = 0; c < k; ++c) {
    const double p = a[at(c * k + c)];
    for (int64_t i = 0; i < k; ++i) {
      a[at(c * k + i)] /= p;
      inverse[at(c * k + i)] /= p;
    }
    for (int64_t r = 0; r < k; ++r) {
      const double f = a[at(r * k + c)];
      if (r == c) continue;
      for (int64_t i = 0; i < k; ++i) {
        a[at(r * k + i)] -= f * a[at(c * k + i)];
        inverse[at(r * k + i)] -= f * inverse[at(c * k + i)];
      }
    }
  }
  return inverse;
}

NaivePruned naive_by_saliency(const std::vector<float>& w, int64_t n, int64_t k,
                              const Matrix64& cost, const Sparsity& sparsity) {
  NaivePruned out{std::vector<char>(w.size(), 1), Matrix64(w.size())};
  std::vector<double> saliency(at(k));
  for (int64_t r = 0; r < n; ++r) {
    for (int64_t c = 0; c < k; ++c) {
      const double v = static_cast<double>(w[at(r * k + c)]);
      saliency[at(c)] = v * v * cost[at(c)];
    }
    const int64_t group = sparsity.kind == SparsityKind::kNM ? sparsity.of : k;
    for (int64_t c = 0; c < k; c += group) {
      const int64_t end = std::min(k, c + group);
      drop(out.kept, r * k, c, end, std::max<int64_t>(0, end - c - sparsity.kept), saliency);
    }
  }
  for (size_t i = 0; i < w.size(); ++i) out.w[i] = out.kept[i] ? static_cast<double>(w[i]) : 0;
  return out;
}

NaivePruned naive_sparsegpt(const std::vector<float>& w, int64_t n, int64_t k, const Matrix64& h,
                            const std::vector<char>& dead, const Sparsity& sparsity) {
  // Inverses of h without its first columns, each from the one before.
  std::vector<Matrix64> row_of_inverse;  // row j, from column j on, when j is the first
  Matrix64 inverse = naive_inverse(h, k);
  Matrix64 cost(at(k));
  for (int64_t j = 0; j < k; ++j) {
    const double d = inverse[at(j * k + j)];
    cost[at(j)] = dead[at(j)] ? 0 : 1 / d;
    row_of_inverse.emplace_back(inverse.begin() + j * k, inverse.begin() + (j + 1) * k);
    const Matrix64 row = row_of_inverse.back();
    for (int64_t a = 0; a < k; ++a) {
      for (int64_t b = 0; b < k; ++b) inverse[at(a * k + b)] -= row[at(a)] * row[at(b)] / d;
    }
  }
  const bool groups = sparsity.kind == SparsityKind::kNM;
  const NaivePruned first = naive_by_saliency(w, n, k, cost, sparsity);
  NaivePruned out{std::vector<char>(w.size(), 1), Matrix64(w.begin(), w.end())};
  const int64_t block = groups ? sparsity.of : 32;
  std::vector<double> saliency(at(k));
  for (int64_t r = 0; r < n; ++r) {
    double* const row = out.w.data() + r * k;
    for (int64_t c = 0; c < k; ++c) {
      if (c % block == 0) {
        const int64_t end = std::min(k, c + block);
        int64_t count = std::max<int64_t>(0, end - c - sparsity.kept);
        if (!groups)
          count = std::count(first.kept.begin() + r * k + c, first.kept.begin() + r * k + end, 0);
        for (int64_t i = c; i < end; ++i) saliency[at(i)] = row[i] * row[i] * cost[at(i)];
        drop(out.kept, r * k, c, end, count, saliency);
      }
      if (out.kept[at(r * k + c)]) continue;
      const Matrix64& from = row_of_inverse[at(c)];
      const double miss = row[c] / from[at(c)];
      for (int64_t i = c + 1; i < k; ++i) row[i] -= miss * from[at(i)];
      row[c] = 0;
    }
  }
  return out;
}

Matrix64 naive_refined(const std::vector<float>& w, int64_t n, int64_t k, const Matrix64& h,
                       const std::vector<char>& kept) {
  Matrix64 out(w.size());
  for (int64_t r = 0; r < n; ++r) {
    std::vector<int64_t> there;
    for (int64_t c = 0; c < k; ++c) {
      if (kept[at(r * k + c)]) there.push_back(c);
    }
    Matrix64 a;
    std::vector<double> b;
    for (const int64_t i : there) {
      for (const int64_t j : there) a.push_back(h[at(i * k + j)]);
      double sum = 0;
      for (int64_t j = 0; j < k; ++j)
        sum += h[at(i * k + j)] * static_cast<double>(w[at(r * k + j)]);
      b.push_back(sum);
    }
    const auto x = solve(std::move(a), std::move(b));
    for (size_t i = 0; i < there.size(); ++i) out[at(r * k + there[i])] = x[i];
  }
  return out;
}

double naive_loss(const float* w, const double* q, int64_t k, const Matrix64& h) {
  double sum = 0;
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t j = 0; j < k; ++j) {
      sum += (static_cast<double>(w[i]) - q[i]) * h[at(i * k + j)] *
             (static_cast<double>(w[j]) - q[j]);
    }
  }
  return sum;
}

}  // namespace pith::test
