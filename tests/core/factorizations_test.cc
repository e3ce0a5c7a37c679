// QR, singular values and eigenvalues against LAPACK's (golden/linalg.json), and against what they
// promise: factors that are orthonormal and give the matrix again.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/file.h"
#include "core/json.h"
#include "core/linalg.h"
#include "core/rng.h"
#include "tests/support/test_data.h"
#include "tests/support/threads.h"

namespace pith {
namespace {

struct Dense {
  int64_t m, n;
  std::vector<double> data;

  double& at(int64_t i, int64_t j) { return data[static_cast<size_t>(i * n + j)]; }
  MatrixRef<const double> ref() const { return {data.data(), m, n}; }
};

Dense uniform(int64_t m, int64_t n, uint64_t seed) {
  const Rng rng(seed);
  Dense a{m, n, std::vector<double>(static_cast<size_t>(m * n))};
  for (size_t i = 0; i < a.data.size(); ++i) a.data[i] = rng.uniform_at(i) * 2 - 1;
  return a;
}

Dense times(MatrixRef<const double> a, MatrixRef<const double> b) {  // an independent product
  Dense c{a.rows, b.columns, std::vector<double>(static_cast<size_t>(a.rows * b.columns))};
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j < b.columns; ++j) {
      long double sum = 0;
      for (int64_t p = 0; p < a.columns; ++p)
        sum += static_cast<long double>(a(i, p)) * static_cast<long double>(b(p, j));
      c.at(i, j) = static_cast<double>(sum);
    }
  }
  return c;
}

double largest_difference(MatrixRef<const double> a, MatrixRef<const double> b) {
  double worst = 0;
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j < a.columns; ++j) worst = std::max(worst, std::fabs(a(i, j) - b(i, j)));
  }
  return worst;
}
double from_orthonormal(MatrixRef<const double> q) {  // columns
  Dense eye{q.columns, q.columns, std::vector<double>(static_cast<size_t>(q.columns * q.columns))};
  for (int64_t i = 0; i < q.columns; ++i) eye.at(i, i) = 1;
  return largest_difference(times(q.t(), q).ref(), eye.ref());
}
double largest(MatrixRef<const double> a) {
  double out = 0;
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j < a.columns; ++j) out = std::max(out, std::fabs(a(i, j)));
  }
  return out;
}

struct Golden {
  std::string name;
  Dense a;
  std::vector<double> singular, eigen;
};

std::vector<Golden> goldens() {
  const std::string path = test::fixture("golden/linalg.json");
  const Json cases = parse_json(read_text_file(path, 1 << 20), path);
  std::vector<Golden> out;
  for (const auto& c : cases) {
    const auto m = static_cast<int64_t>(json_uint(c, "m", path)),
               n = static_cast<int64_t>(json_uint(c, "n", path));
    const uint64_t seed = json_uint(c, "seed", path);
    const std::string kind = json_string(c, "kind", path);
    Golden g{kind + " " + std::to_string(m) + "x" + std::to_string(n), uniform(m, n, seed), {}, {}};
    if (kind == "rank 3") {
      const MatrixRef<const double> three = g.a.ref().block(0, 0, m, 3);
      g.a = times(three, uniform(3, n, seed + 1).ref());
    }
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t i = 0; i < m; ++i) {
        double& v = g.a.at(i, j);
        if (kind == "graded") v = std::ldexp(v, static_cast<int>(-j));
        if (kind == "huge") v = std::ldexp(v, 1000);
        if (kind == "tiny") v = std::ldexp(v, -1000);
        if (kind == "zero") v = 0;
      }
    }
    for (const auto& v : c.at("singular")) g.singular.push_back(v.get<double>());
    for (const auto& v : c.value("eigen", Json::array())) g.eigen.push_back(v.get<double>());
    out.push_back(std::move(g));
  }
  return out;
}

TEST(Factorizations, products_are_those_of_long_double_with_every_transpose) {
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{1, 1, 1}, {5, 7, 0}, {193, 20, 300}}) {
    for (const bool ta : {false, true}) {
      for (const bool tb : {false, true}) {
        const Dense a = ta ? uniform(k, m, 1) : uniform(m, k, 1),
                    b = tb ? uniform(n, k, 2) : uniform(k, n, 2);
        const auto left = ta ? a.ref().t() : a.ref(), right = tb ? b.ref().t() : b.ref();
        Dense c = uniform(m, n, 3);
        const Dense before = c, product = times(left, right);
        multiply(0.5, left, right, 2, {c.data.data(), m, n});
        for (int64_t i = 0; i < m * n; ++i) {
          const auto at = static_cast<size_t>(i);
          ASSERT_NEAR(c.data[at], 2 * before.data[at] + 0.5 * product.data[at], 1e-13);
        }
        std::ranges::fill(c.data, std::nan(""));
        multiply(1, left, right, 0, {c.data.data(), m, n});
        EXPECT_LT(largest_difference(c.ref(), product.ref()), 1e-13);
      }
    }
  }
}

TEST(Factorizations, qr_gives_orthonormal_columns_and_the_matrix_again) {
  for (auto& g : goldens()) {
    if (g.a.m < g.a.n) continue;
    Dense q = g.a, r = uniform(g.a.n, g.a.n, 1);
    qr(q.m, q.n, q.data.data(), r.data.data());
    EXPECT_LT(from_orthonormal(q.ref()), 1e-14 * static_cast<double>(q.m)) << g.name;
    const Dense again = times(q.ref(), r.ref());
    EXPECT_LE(largest_difference(again.ref(), g.a.ref()),
              1e-15 * static_cast<double>(q.m) * largest(g.a.ref()))
        << g.name;
    for (int64_t i = 0; i < r.n; ++i) {
      for (int64_t j = 0; j < i; ++j) EXPECT_EQ(r.at(i, j), 0) << g.name;
    }
  }
}

TEST(Factorizations, singular_values_are_those_of_lapack_and_give_the_matrix_again) {
  for (const auto& g : goldens()) {
    const auto p = static_cast<int64_t>(g.singular.size());
    const Svd f = svd(g.a.ref());
    ASSERT_EQ(f.s.size(), g.singular.size()) << g.name;
    for (size_t i = 0; i < f.s.size(); ++i)
      EXPECT_NEAR(f.s[i], g.singular[i], 1e-14 * g.singular[0]) << g.name << " " << i;
    const MatrixRef<const double> u(f.u.data(), g.a.m, p), v(f.v.data(), g.a.n, p);
    EXPECT_LT(from_orthonormal(u), 1e-13) << g.name;
    EXPECT_LT(from_orthonormal(v), 1e-13) << g.name;
    Dense us{g.a.m, p, {u.data, u.data + g.a.m * p}};
    for (int64_t i = 0; i < g.a.m; ++i) {
      for (int64_t j = 0; j < p; ++j) us.at(i, j) *= f.s[static_cast<size_t>(j)];
    }
    EXPECT_LE(largest_difference(times(us.ref(), v.t()).ref(), g.a.ref()), 1e-14 * g.singular[0])
        << g.name;
  }
}

TEST(Factorizations, eigenvalues_are_those_of_lapack_and_give_the_matrix_again) {
  for (const auto& g : goldens()) {
    if (g.eigen.empty()) continue;
    Dense a = times(g.a.ref().t(), g.a.ref());
    const int64_t n = a.n;
    Dense upper = a;
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < i; ++j) {
        a.at(i, j) = a.at(j, i);
        upper.at(i, j) = std::nan("");  // not read
      }
    }
    const SymmetricEigen f = symmetric_eigen(n, upper.data.data());
    for (size_t i = 0; i < f.values.size(); ++i)
      EXPECT_NEAR(f.values[i], g.eigen[i], 1e-14 * g.eigen[0]) << g.name << " " << i;
    const MatrixRef<const double> v = MatrixRef<const double>(f.vectors.data(), n, n).t();
    EXPECT_LT(from_orthonormal(v), 1e-13) << g.name;
    Dense scaled{n, n, {f.vectors.begin(), f.vectors.end()}};
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) scaled.at(i, j) *= f.values[static_cast<size_t>(i)];
    }
    EXPECT_LE(largest_difference(times(v, scaled.ref()).ref(), a.ref()), 2e-14 * g.eigen[0])
        << g.name;
  }
  // Indefinite, and with equal eigenvalues.
  const std::vector<double> swap = {0, 1, 1, 0};
  EXPECT_NEAR(symmetric_eigen(2, swap.data()).values[1], -1, 1e-15);
  const std::vector<double> eye = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  EXPECT_EQ(symmetric_eigen(3, eye.data()).values, std::vector<double>(3, 1.0));
}

TEST(Factorizations, bits_do_not_depend_on_the_number_of_threads) {
  const Dense a = uniform(230, 150, 5), gram = times(a.ref().t(), a.ref());
  test::expect_same_on_any_number_of_threads([&] {
    std::vector<double> bits;
    const auto add = [&](const auto&... v) { (bits.insert(bits.end(), v.begin(), v.end()), ...); };
    Dense q = a, r = gram, c = gram;
    qr(a.m, a.n, q.data.data(), r.data.data());
    multiply(1, a.ref().t(), a.ref(), -1, {c.data.data(), a.n, a.n});
    const Svd f = svd(a.ref());
    const SymmetricEigen e = symmetric_eigen(a.n, gram.data.data());
    add(q.data, r.data, c.data, f.s, e.values, f.u, f.v, e.vectors);
    return bits;
  });
}

TEST(Factorizations, numbers_that_are_not_finite_are_named) {
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    Dense a = uniform(6, 6, 1), r = a;
    a.at(2, 4) = bad;
    EXPECT_PITH_ERROR(svd(a.ref()), ErrorKind::kNumeric, "svd: element (2, 4) of the matrix");
    EXPECT_PITH_ERROR(symmetric_eigen(6, a.data.data()), ErrorKind::kNumeric, "element (2, 4)");
    EXPECT_PITH_ERROR(qr(6, 6, a.data.data(), r.data.data()), ErrorKind::kNumeric, "qr: element");
  }
}

}  // namespace
}  // namespace pith
