#include "tests/support/algebra_checks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <utility>

#include "core/linalg.h"
#include "core/rng.h"

namespace pith::test {
namespace {

template <class T>
std::vector<T> numbers(int64_t n, uint64_t seed) {
  const Rng rng(seed);
  std::vector<T> out(static_cast<size_t>(n));
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<T>(rng.uniform_at(i) * 2 - 1);
  return out;
}
template <class T>
Matrix<T> matrix(Algebra& algebra, int64_t m, int64_t n, uint64_t seed) {
  const auto values = numbers<T>(m * n, seed);
  return {algebra, m, n, values.data()};
}
template <class T>
std::vector<T> read(Algebra& algebra, const Matrix<T>& m) {
  std::vector<T> to(static_cast<size_t>(m.size()));
  algebra.download(m.ref(), to.data());
  return to;
}
// a b on the host, in f64.
template <class T>
std::vector<double> product(MatrixRef<const T> a, MatrixRef<const T> b) {
  std::vector<double> to;
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j < b.columns; ++j) {
      double sum = 0;
      for (int64_t p = 0; p < a.columns; ++p)
        sum += static_cast<double>(a(i, p)) * static_cast<double>(b(p, j));
      to.push_back(sum);
    }
  }
  return to;
}
double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::fabs(a[i] - b[i]));
  return worst;
}
double from_orthonormal(Algebra& algebra, const Matrix<double>& q) {  // columns
  const auto values = read(algebra, q);
  const MatrixRef<const double> here(values.data(), q.rows(), q.columns());
  std::vector<double> gram = product(here.t(), here);
  for (int64_t i = 0; i < q.columns(); ++i) gram[static_cast<size_t>(i * (q.columns() + 1))] -= 1;
  return largest_difference(gram, std::vector<double>(gram.size()));
}

template <class T>
void check_gemm(Algebra& algebra, double unit) {
  struct Shape {
    int64_t m, n, k;
  };
  for (const Shape& s : {Shape{1, 1, 1}, {5, 7, 0}, {70, 65, 37}, {200, 131, 9}, {9, 33, 300}}) {
    for (const bool ta : {false, true}) {
      for (const bool tb : {false, true}) {
        // One row and column more than is used, so that rows have gaps.
        const int64_t am = (ta ? s.k : s.m) + 1, an = (ta ? s.m : s.k) + 1,
                      bm = (tb ? s.n : s.k) + 1, bn = (tb ? s.k : s.n) + 1;
        const auto a = matrix<T>(algebra, am, an, 1), b = matrix<T>(algebra, bm, bn, 2);
        const auto ah = numbers<T>(am * an, 1), bh = numbers<T>(bm * bn, 2);
        const auto part = [](MatrixRef<const T> of, bool t) {
          const auto inner = of.block(0, 0, of.rows - 1, of.columns - 1);
          return t ? inner.t() : inner;
        };
        const auto expected =
            product<T>(part({ah.data(), am, an}, ta), part({bh.data(), bm, bn}, tb));
        for (const auto& [alpha, beta] : {std::pair<T, T>{1, 0}, {1, 1}, {T(0.5), 2}}) {
          auto c = matrix<T>(algebra, s.m, s.n, 3);
          const auto before = numbers<T>(s.m * s.n, 3);
          algebra.gemm(alpha, part(a.ref(), ta), part(b.ref(), tb), beta, c);
          const auto after = read(algebra, c);
          for (size_t i = 0; i < after.size(); ++i) {
            ASSERT_NEAR(static_cast<double>(after[i]),
                        static_cast<double>(beta) * static_cast<double>(before[i]) +
                            static_cast<double>(alpha) * expected[i],
                        unit * (8 + static_cast<double>(s.k)))
                << s.m << " " << s.n << " " << s.k << ta << tb << " at " << i;
          }
        }
      }
    }
  }
  const std::vector<T> nan(20, static_cast<T>(NAN));
  Matrix<T> c(algebra, 4, 5, nan.data());
  const auto a = matrix<T>(algebra, 4, 3, 1), b = matrix<T>(algebra, 3, 5, 2);
  for (const T alpha : {T(1), T(0.5)}) {  // without beta, what was there does not matter
    algebra.gemm(alpha, a, b, 0, c);
    for (const T v : read(algebra, c)) ASSERT_TRUE(std::isfinite(v));
  }
}

// Positive definite, and as far from the identity as inputs of layers are; upper triangle alone.
std::vector<double> positive(int64_t n) {
  const auto x = numbers<double>(2 * n * n, 5);
  auto a = product<double>(MatrixRef<const double>(x.data(), 2 * n, n).t(), {x.data(), 2 * n, n});
  for (int64_t i = 0; i < n; ++i) a[static_cast<size_t>(i * (n + 1))] += 0.1;
  return a;
}

}  // namespace

void check_products(Algebra& algebra, double unit_f32) {
  check_gemm<float>(algebra, unit_f32);
  check_gemm<double>(algebra, 0x1p-52);
  const int64_t m = 101, n = 33;
  const auto a = matrix<float>(algebra, m, n, 1);
  auto b = matrix<float>(algebra, m, n, 2);
  const auto ah = numbers<float>(m * n, 1), bh = numbers<float>(m * n, 2);
  double sum = 0;
  for (size_t i = 0; i < ah.size(); ++i)
    sum += static_cast<double>(ah[i]) * static_cast<double>(bh[i]);
  EXPECT_NEAR(algebra.dot(a, b), sum, 1e-12 * static_cast<double>(m * n));
  algebra.add_scaled(0.25f, a.row_block(10, 50), b.row_block(10, 50));
  const auto after = read(algebra, b);
  for (size_t i = 0; i < after.size(); ++i) {
    const bool in = i >= 10 * 33 && i < 60 * 33;
    EXPECT_FLOAT_EQ(after[i], in ? std::fma(0.25f, ah[i], bh[i]) : bh[i]);
  }
  Matrix<double> wide(algebra, m, n);
  Matrix<float> narrow(algebra, m, n);
  algebra.convert(a.ref(), wide.ref());
  algebra.convert(std::as_const(wide).ref(), narrow.ref());
  EXPECT_EQ(read(algebra, narrow), ah);
}

void check_means(Algebra& algebra, double unit) {
  const int64_t n = 90, k = 200, m = 40, more = 7;
  const auto x = matrix<float>(algebra, m + more, k, 1), y = matrix<float>(algebra, m + more, n, 2);
  const auto xh = numbers<float>((m + more) * k, 1), yh = numbers<float>((m + more) * n, 2);
  Matrix<float> gram(algebra, k, k), cross(algebra, n, k), absmax(algebra, 1, k);
  Matrix<double> square(algebra, 1, k);
  for (const auto& [begin, count] : {std::pair<int64_t, int64_t>{0, m}, {m, more}}) {
    const auto of_x = x.row_block(begin, count), of_y = y.row_block(begin, count);
    algebra.add_to_mean(begin, of_x, of_x, gram);
    algebra.add_to_mean(begin, of_y, of_x, cross);
    algebra.add_to_moments(begin, of_x, square, absmax);
  }
  Buffer<float> g = algebra.take(std::move(gram)), c = algebra.take(std::move(cross));
  mirror_upper(k, g.data());
  const auto tokens = static_cast<double>(m + more);
  const MatrixRef<const float> xr(xh.data(), m + more, k), yr(yh.data(), m + more, n);
  const auto of_gram = product<float>(xr.t(), xr), of_cross = product<float>(yr.t(), xr);
  for (size_t i = 0; i < of_gram.size(); ++i)
    ASSERT_NEAR(static_cast<double>(g[static_cast<int64_t>(i)]), of_gram[i] / tokens, unit) << i;
  for (size_t i = 0; i < of_cross.size(); ++i)
    ASSERT_NEAR(static_cast<double>(c[static_cast<int64_t>(i)]), of_cross[i] / tokens, unit) << i;
  const auto squares = read(algebra, square);
  const auto largest = read(algebra, absmax);
  for (int64_t i = 0; i < k; ++i) {
    const auto at = static_cast<size_t>(i);
    EXPECT_NEAR(squares[at], of_gram[static_cast<size_t>(i * (k + 1))] / tokens, 1e-12);
    float most = 0;
    for (int64_t t = 0; t < m + more; ++t) most = std::max(most, std::fabs(xr(t, i)));
    EXPECT_EQ(largest[at], most);
  }
}

void check_systems(Algebra& algebra) {
  for (const int64_t n : {1, 5, 64, 65, 150}) {
    const auto a = positive(n);
    Matrix<double> u(algebra, n, n, a.data());
    ASSERT_TRUE(algebra.cholesky(u));
    auto factor = read(algebra, u);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < i; ++j) factor[static_cast<size_t>(i * n + j)] = 0;
    }
    const MatrixRef<const double> f(factor.data(), n, n);
    EXPECT_LT(largest_difference(product(f, f.t()), a), 1e-12 * static_cast<double>(n)) << n;
    const int64_t rows = 70;
    const auto right = numbers<double>(rows * n, 9);
    for (const bool transposed : {false, true}) {
      Matrix<double> x(algebra, rows, n, right.data());
      algebra.solve_upper(u, transposed, x);
      const auto solved = read(algebra, x);
      EXPECT_LT(
          largest_difference(product({solved.data(), rows, n}, transposed ? f.t() : f), right),
          1e-11 * static_cast<double>(n));
    }
    Matrix<double> again(algebra, n, n, a.data()), x(algebra, rows, n, right.data());
    ASSERT_TRUE(algebra.solve_positive(again, x));
    const auto solved = read(algebra, x);
    EXPECT_LT(
        largest_difference(product<double>({solved.data(), rows, n}, {a.data(), n, n}), right),
        1e-10 * static_cast<double>(n));
  }
  for (const int64_t at : {0, 3, 149}) {  // in the last tile, and in others
    for (const double bad : {-1.0, static_cast<double>(NAN)}) {
      auto a = positive(150);
      a[static_cast<size_t>(at * 150 + at)] = bad;
      Matrix<double> on(algebra, 150, 150, a.data());
      EXPECT_FALSE(algebra.cholesky(on)) << at << " " << bad;
    }
  }
  const std::vector<int64_t> order = {2, 0, 1};
  const std::vector<float> a = {1, 2, 3, 4, 5, 6, 7, 8, 9}, diagonal = {10, 20, 30};
  const Matrix<float> from(algebra, 3, 3, a.data());
  Matrix<double> to(algebra, 3, 3);
  algebra.permute_and_damp(from, order, diagonal, 2, 0.5, to);
  EXPECT_EQ(read(algebra, to), (std::vector<double>{30.5, 14, 16, 6, 10.5, 4, 12, 8, 20.5}));
  algebra.permute_and_damp(from, {}, diagonal, 1, 0, to);
  EXPECT_EQ(read(algebra, to), (std::vector<double>{10, 2, 3, 4, 20, 6, 7, 8, 30}));
}

void check_decompositions(Algebra& algebra) {
  const int64_t m = 120, n = 40;
  // Ranks 40 (well and badly conditioned), 7 and 0.
  for (const double decay : {1.0, 0.5, 1e-3, 0.0}) {
    const int64_t inner = decay == 1e-3 ? 7 : n;
    auto left = numbers<double>(m * inner, 1);
    const auto right = numbers<double>(inner * n, 2);
    for (int64_t i = 0; i < m * inner; ++i)
      left[static_cast<size_t>(i)] *= std::pow(decay, static_cast<double>(i % inner) / 2);
    if (decay == 0) std::ranges::fill(left, 0.0);
    const auto a = product<double>({left.data(), m, inner}, {right.data(), inner, n});
    const double size =
        std::fabs(*std::ranges::max_element(a, {}, [](double v) { return std::fabs(v); }));
    Matrix<double> q(algebra, m, n, a.data());
    const Matrix<double> r = algebra.qr(q);
    EXPECT_LT(from_orthonormal(algebra, q), 1e-12) << decay;
    const auto qh = read(algebra, q), rh = read(algebra, r);
    EXPECT_LE(largest_difference(product<double>({qh.data(), m, n}, {rh.data(), n, n}), a),
              1e-12 * size)
        << decay;

    const Svd exact = svd({a.data(), m, n});
    const Matrix<double> there(algebra, m, n, a.data());
    for (const bool wide : {false, true}) {
      const LowRank all = algebra.svd(wide ? there.t() : there.ref());
      EXPECT_EQ(all.s, exact.s);
      const auto f = algebra.svd(wide ? there.t() : there.ref(), 5);
      EXPECT_LT(from_orthonormal(algebra, f.u), 1e-12) << decay;
      EXPECT_LT(from_orthonormal(algebra, f.v), 1e-12) << decay;
      // The squared error of the best approximation is the sum of the squares that are dropped.
      auto uh = read(algebra, f.u), vh = read(algebra, f.v);
      const int64_t um = f.u.rows(), vm = f.v.rows();
      for (int64_t i = 0; i < um * 5; ++i)
        uh[static_cast<size_t>(i)] *= f.s[static_cast<size_t>(i % 5)];
      const auto again =
          product<double>({uh.data(), um, 5}, MatrixRef<const double>(vh.data(), vm, 5).t());
      const MatrixRef<const double> expected = wide ? MatrixRef<const double>(a.data(), m, n).t()
                                                    : MatrixRef<const double>(a.data(), m, n);
      double error = 0, best = 0;
      for (int64_t i = 0; i < um; ++i) {
        for (int64_t j = 0; j < vm; ++j) {
          const double d = again[static_cast<size_t>(i * vm + j)] - expected(i, j);
          error += d * d;
        }
      }
      for (size_t i = 5; i < exact.s.size(); ++i) best += exact.s[i] * exact.s[i];
      EXPECT_LE(error, 1.05 * best + 1e-24 * size * size) << decay << wide;
    }
  }
  const auto a = positive(30);
  const Matrix<double> there(algebra, 30, 30, a.data());
  const auto [values, vectors] = algebra.symmetric_eigen(there);
  const auto vh = read(algebra, vectors);
  auto scaled = vh;
  for (size_t i = 0; i < scaled.size(); ++i) scaled[i] *= values[i / 30];
  EXPECT_LT(largest_difference(product<double>(MatrixRef<const double>(vh.data(), 30, 30).t(),
                                               {scaled.data(), 30, 30}),
                               a),
            1e-12 * values[0]);
}

void check_memory(Algebra& algebra) {
  auto host = numbers<float>(12, 1);
  auto borrowed = algebra.borrow(host.data(), 3, 4);
  EXPECT_EQ(read(algebra, borrowed), host);
  const auto more = matrix<float>(algebra, 3, 4, 2);
  algebra.add_scaled(1, more, borrowed);
  algebra.give_back(borrowed, host.data());
  EXPECT_EQ(read(algebra, borrowed), host);
  Matrix<float> grows;
  algebra.reserve_rows(0, 2, 4, &grows);
  algebra.copy(more.row_block(0, 2), grows.row_block(0, 2));
  algebra.reserve_rows(2, 5, 4, &grows);
  algebra.copy(more.row_block(2, 1), grows.row_block(2, 1));
  const auto expected = numbers<float>(12, 2);
  const Buffer<float> taken = algebra.take(std::move(grows));
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), taken.begin()));
  EXPECT_TRUE(algebra.take(Matrix<float>()).empty());
  std::vector<std::atomic<int>> seen(1000);
  algebra.for_row_panels(1000, 32, 1 << 20, [&](int64_t begin, int64_t end) {
    EXPECT_EQ(begin % 32, 0);
    for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
  });
  for (const auto& s : seen) EXPECT_EQ(s, 1);
}

}  // namespace pith::test
