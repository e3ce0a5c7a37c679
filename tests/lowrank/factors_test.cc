// The factors against the definition: whitened losses by plain sums in f64, singular values by
// another route (Jacobi rotations of W L, L a Cholesky factor that the test makes itself).

#include "lowrank/factors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/linalg.h"
#include "core/rng.h"
#include "runtime/cpu/cpu_algebra.h"
#include "tests/support/encodings.h"
#include "tests/support/test_data.h"
#include "tests/support/threads.h"

namespace pith {
namespace {

using Doubles = std::vector<double>;
size_t at(int64_t i) { return static_cast<size_t>(i); }

// a [m, n] b [n, p], or b [p, n]^T
Doubles product(const Doubles& a, const Doubles& b, int64_t m, int64_t n, int64_t p,
                bool transposed = false) {
  Doubles c(at(m * p));
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t t = 0; t < n; ++t) {
      for (int64_t j = 0; j < p; ++j)
        c[at(i * p + j)] += a[at(i * n + t)] * b[at(transposed ? j * n + t : t * p + j)];
    }
  }
  return c;
}

// Weights whose channels differ in size, and inputs whose channels go together.
struct Problem {
  int64_t n, k, tokens;
  std::vector<float> w, gram;

  Problem(int64_t rows, int64_t columns, int64_t m, uint64_t seed)
      : n(rows), k(columns), tokens(m), w(test::uniform_values(rows * columns, seed)) {
    auto x = test::uniform_values(m * k, seed + 100);
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 1; j < k; ++j) x[at(i * k + j)] += 0.7f * x[at(i * k + j - 1)];
    }
    gram.resize(at(k * k));
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = 0; j < k; ++j) {
        double sum = 0;
        for (int64_t t = 0; t < m; ++t)
          sum += static_cast<double>(x[at(t * k + i)]) * static_cast<double>(x[at(t * k + j)]);
        gram[at(i * k + j)] = static_cast<float>(sum / static_cast<double>(m));
      }
    }
  }
  Doubles h(double damping) const {
    Doubles to(gram.begin(), gram.end());
    double mean = 0;
    for (int64_t i = 0; i < k; ++i) mean += to[at(i * k + i)] / static_cast<double>(k);
    for (int64_t i = 0; i < k; ++i) to[at(i * k + i)] += damping * mean;
    return to;
  }
  // (w - b) H (w - b)^T over all rows
  double loss(const Doubles& b, const Doubles& hessian) const {
    Doubles d(w.begin(), w.end());
    for (size_t i = 0; i < d.size(); ++i) d[i] -= b[i];
    const Doubles dh = product(d, hessian, n, k, k);
    double sum = 0;
    for (size_t i = 0; i < d.size(); ++i) sum += d[i] * dh[i];
    return sum;
  }
  Whitening whitening(double damping) const {
    return {cpu_algebra(), gram.data(), k, {.damping = damping, .shrink = 0}};
  }
  MatrixRef<const float> weight() const { return {w.data(), n, k}; }
};

Doubles doubles(const Matrix<double>& m) { return {m.data(), m.data() + m.size()}; }
Doubles whole(const Factors& f) {
  return product(doubles(f.up), doubles(f.w), f.up.rows(), f.up.columns(), f.w.columns());
}

// L with H = L L^T, lower triangular.
Doubles lower_cholesky(Doubles h, int64_t k) {
  Doubles l(h.size());
  for (int64_t j = 0; j < k; ++j) {
    for (int64_t i = j; i < k; ++i) {
      double sum = h[at(i * k + j)];
      for (int64_t t = 0; t < j; ++t) sum -= l[at(i * k + t)] * l[at(j * k + t)];
      l[at(i * k + j)] = i == j ? std::sqrt(sum) : sum / l[at(j * k + j)];
    }
  }
  return l;
}

const struct {
  int64_t n, k;
} kShapes[] = {{24, 40}, {40, 24}, {32, 32}, {1, 12}, {12, 1}, {70, 13}};

TEST(Factors, the_loss_is_the_sum_of_the_squares_of_the_singular_values_that_were_dropped) {
  for (const auto& [n, k] : kShapes) {
    const Problem p(n, k, 300, 1);
    const Doubles h = p.h(0.01), w(p.w.begin(), p.w.end());
    const Doubles a = product(w, lower_cholesky(h, k), n, k, k);
    const Svd reference = svd(MatrixRef<const double>(a.data(), n, k));
    const Whitening whitening = p.whitening(0.01);
    const Doubles spectrum = whitened_spectrum(cpu_algebra(), p.weight(), whitening);
    ASSERT_EQ(spectrum.size(), reference.s.size());
    for (size_t i = 0; i < spectrum.size(); ++i)
      EXPECT_NEAR(spectrum[i], reference.s[i], 1e-6 * reference.s[0]) << n << "x" << k << ", " << i;
    const int64_t most = std::min(n, k);
    for (const int64_t rank : {int64_t{1}, most / 3 + 1, most - 1, most}) {
      if (rank < 1) continue;
      const Factors f = best_factors(cpu_algebra(), p.weight(), whitening, rank);
      double dropped = 0, norm = 0;
      for (int64_t i = 0; i < most; ++i) {
        const double square = reference.s[at(i)] * reference.s[at(i)];
        norm += square;
        if (i >= rank) dropped += square;
      }
      const double slack = 1e-3 * dropped + 1e-9 * norm;
      EXPECT_NEAR(f.norm, norm, 1e-6 * norm);
      EXPECT_NEAR(f.loss, dropped, slack) << n << "x" << k << " rank " << rank;
      EXPECT_NEAR(p.loss(whole(f), h), dropped, slack) << n << "x" << k << " rank " << rank;
      // The columns of up are orthonormal.
      const Doubles up = doubles(f.up);
      for (int64_t i = 0; i < rank; ++i) {
        for (int64_t j = 0; j <= i; ++j) {
          double dot = 0;
          for (int64_t r = 0; r < n; ++r) dot += up[at(r * rank + i)] * up[at(r * rank + j)];
          EXPECT_NEAR(dot, i == j, 1e-9);
        }
      }
    }
  }
}

TEST(Factors, no_change_of_the_factors_loses_less) {
  const Problem p(24, 40, 300, 2);
  const Doubles h = p.h(0.01);
  const Factors f = best_factors(cpu_algebra(), p.weight(), p.whitening(0.01), 6);
  const double best = p.loss(whole(f), h);
  Rng rng(3);
  for (int i = 0; i < 200; ++i) {
    const double size = std::pow(10.0, -1 - i % 5);
    Doubles up = doubles(f.up), w = doubles(f.w);
    for (double& v : up) v += size * (rng.uniform() - 0.5);
    for (double& v : w) v += size * (rng.uniform() - 0.5);
    EXPECT_GE(p.loss(product(up, w, p.n, 6, p.k), h), best * (1 - 1e-9)) << size;
  }
  // Nor do the factors of plain SVD, which know nothing of the inputs.
  const Factors plain = best_factors(cpu_algebra(), p.weight(), Whitening(), 6);
  EXPECT_GT(p.loss(whole(plain), h), 1.02 * best);
  double squares = 0;
  const Doubles b = whole(plain);
  for (size_t i = 0; i < b.size(); ++i) squares += std::pow(static_cast<double>(p.w[i]) - b[i], 2);
  EXPECT_NEAR(plain.loss, squares, 1e-9 * plain.norm);
}

TEST(Factors, a_singular_gram_matrix_goes_by_its_eigenvectors) {
  for (const auto& [n, k] :
       {std::pair<int64_t, int64_t>{24, 40}, std::pair<int64_t, int64_t>{40, 24}}) {
    const Problem p(n, k, 10, 4);  // of rank 10
    const Whitening whitening = p.whitening(0);
    EXPECT_TRUE(whitening.singular());
    EXPECT_FALSE(p.whitening(0.01).singular());
    const Doubles h = p.h(0);
    double last = std::numeric_limits<double>::infinity();
    for (const int64_t rank : {1, 4, 9}) {
      const Factors f = best_factors(cpu_algebra(), p.weight(), whitening, rank);
      const double loss = p.loss(whole(f), h);
      EXPECT_NEAR(loss, f.loss, 1e-4 * f.norm);
      EXPECT_LT(loss, last);
      last = loss;
    }
    // All that the inputs can show is kept by as many columns as they have dimensions.
    const Factors all = best_factors(cpu_algebra(), p.weight(), whitening, 10);
    EXPECT_LT(p.loss(whole(all), h), 1e-5 * all.norm);
  }
}

TEST(Factors, channels_that_were_never_active_keep_weights) {
  Problem p(24, 24, 300, 5);
  for (int64_t i = 0; i < p.k; ++i) p.gram[at(i * p.k + 7)] = p.gram[at(7 * p.k + i)] = 0;
  const Factors f = best_factors(cpu_algebra(), p.weight(), p.whitening(0), 20);
  const Doubles b = whole(f);
  double kept = 0, norm = 0;
  for (int64_t r = 0; r < p.n; ++r) {
    kept += std::pow(b[at(r * p.k + 7)], 2);
    norm += std::pow(static_cast<double>(p.w[at(r * p.k + 7)]), 2);
  }
  EXPECT_GT(kept, 0.5 * norm);
}

TEST(Factors, few_columns_of_a_large_matrix_are_found_without_all_of_its_singular_values) {
  const int64_t n = kExactSide + 40, k = n + 16, rank = 8;
  auto m = test::uniform_values(n * k, 6, 1e-3f);
  const auto u = test::uniform_values(n * rank, 7), v = test::uniform_values(rank * k, 8);
  double noise = 0;
  for (const float x : m) noise += static_cast<double>(x) * static_cast<double>(x);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t t = 0; t < rank; ++t) {
      for (int64_t j = 0; j < k; ++j) m[at(i * k + j)] += u[at(i * rank + t)] * v[at(t * k + j)];
    }
  }
  const Factors f = best_factors(cpu_algebra(), {m.data(), n, k}, Whitening(), rank);
  EXPECT_LE(f.loss, noise);
  EXPECT_GT(f.loss, 0.9 * noise);
}

TEST(Factors, are_the_same_bits_on_any_number_of_threads) {
  const Problem p(130, 210, 400, 9);
  test::expect_same_on_any_number_of_threads([&] {
    const Factors f = best_factors(cpu_algebra(), p.weight(), p.whitening(0.01), 40);
    return std::pair(doubles(f.up), doubles(f.w));
  });
}

TEST(Factors, what_cannot_be_factored_is_an_error) {
  Problem p(8, 12, 50, 10);
  for (const int64_t rank : {0, -1, 9}) {
    EXPECT_PITH_ERROR(best_factors(cpu_algebra(), p.weight(), Whitening(), rank), ErrorKind::kUsage,
                      "of a matrix [8, 12]");
  }
  p.w[3] = NAN;
  EXPECT_PITH_ERROR(best_factors(cpu_algebra(), p.weight(), Whitening(), 2), ErrorKind::kNumeric,
                    "not finite");
  p.gram[5] = INFINITY;
  EXPECT_PITH_ERROR(p.whitening(0.01), ErrorKind::kNumeric, "Gram matrix");
}

}  // namespace
}  // namespace pith
