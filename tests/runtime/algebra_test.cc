#include "runtime/algebra/algebra.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/rng.h"
#include "runtime/cpu/cpu_algebra.h"
#include "tests/support/algebra_checks.h"
#include "tests/support/test_data.h"
#include "tests/support/threads.h"

namespace pith {
namespace {

TEST(CpuAlgebra, multiplies_and_adds) { test::check_products(cpu_algebra(), 0x1p-23); }
TEST(CpuAlgebra, keeps_means_over_tokens) { test::check_means(cpu_algebra(), 0x1p-21); }
TEST(CpuAlgebra, factors_and_solves) { test::check_systems(cpu_algebra()); }
TEST(CpuAlgebra, decomposes) { test::check_decompositions(cpu_algebra()); }
TEST(CpuAlgebra, borrows_and_gives_back) { test::check_memory(cpu_algebra()); }

TEST(CpuAlgebra, bits_do_not_depend_on_the_number_of_threads) {
  Algebra& algebra = cpu_algebra();
  const int64_t m = 300, n = 210;
  const Rng rng(3);
  std::vector<float> x(static_cast<size_t>(m * n));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(rng.uniform_at(i) - 0.5);
  test::expect_same_on_any_number_of_threads([&] {
    const Matrix<float> a = algebra.borrow(x.data(), m, n);
    Matrix<float> gram(algebra, n, n), product(algebra, m, m);
    algebra.add_to_mean(5, a, a, gram);
    algebra.gemm(0.5f, a, a.t(), 0, product);
    Matrix<double> wide(algebra, m, n);
    algebra.convert(a.ref(), wide.ref());
    const LowRank f = algebra.svd(wide.ref(), 20);
    std::vector<double> bits = f.s;
    bits.insert(bits.end(), f.u.data(), f.u.data() + f.u.size());
    bits.insert(bits.end(), f.v.data(), f.v.data() + f.v.size());
    for (const auto* v : {&gram, &product})
      bits.insert(bits.end(), v->data(), v->data() + v->size());
    bits.push_back(algebra.dot(product, product));
    return bits;
  });
}

TEST(CpuAlgebra, wrong_shapes_are_refused) {
  Algebra& algebra = cpu_algebra();
  Matrix<double> a(algebra, 4, 4);
  EXPECT_PITH_ERROR(algebra.svd(a.ref(), 5), ErrorKind::kUsage, "svd: rank 5 of a matrix [4, 4]");
  Matrix<float> b(algebra, 4, 4);
  std::vector<float> to(16);
  EXPECT_PITH_ERROR(algebra.download(b.ref().block(0, 0, 4, 3), to.data()), ErrorKind::kUsage,
                    "rows have gaps");
}

}  // namespace
}  // namespace pith
