// Pruning with statistics on the device against the processor's: the same masks, and weights within
// the rounding of its GEMM.

#include <gtest/gtest.h>

#include "prune/matrix.h"
#include "runtime/cpu/cpu_algebra.h"
#include "runtime/cuda/gpu_algebra.h"
#include "runtime/cuda_kernels/ops_table.h"
#include "tests/support/encodings.h"
#include "tests/support/statistics.h"

namespace pith {
namespace {

TEST(GpuPrune, gives_what_the_processor_gives) {
  GpuDevice device(cuda::ops_table());
  GpuAlgebra gpu(device, "test");
  const int64_t n = 70, k = 150, m = 400;
  const auto w = test::uniform_values(n * k, 3);
  auto x = test::uniform_values(m * k, 4);
  for (size_t i = 1; i < x.size(); ++i) x[i] += 0.7f * x[i - 1];
  const StatisticsNeeds needs{.mean_square = true, .gram = true};
  const InputStatistics s = test::statistics_of(needs, m, k, x.data());
  for (const Sparsity& sparsity : {Sparsity::bitmap(75), Sparsity::n_of_m(2, 4)}) {
    std::vector<float> results[2];
    PruneLoss losses[2];
    Algebra* const algebras[] = {&cpu_algebra(), &gpu};
    for (int i = 0; i < 2; ++i) {
      const auto in = PruneInputs::from(*algebras[i], s, k, needs, true, {0.05, 0.1});
      results[i].resize(w.size());
      Mask mask(n, k);
      losses[i] = prune_matrix(
          {parse_prune_method("sparsegpt"), sparsity, false, 16}, in, n,
          [&](int64_t begin, int64_t rows, float* to) {
            std::copy_n(w.data() + begin * k, rows * k, to);
          },
          [&](int64_t begin, int64_t rows, const float* from) {
            std::copy_n(from, rows * k, results[i].data() + begin * k);
          },
          &mask);
    }
    EXPECT_NEAR(losses[1].error, losses[0].error, 1e-4 * losses[0].error);
    for (size_t i = 0; i < w.size(); ++i) {
      ASSERT_EQ(results[0][i] == 0, results[1][i] == 0) << i;
      ASSERT_NEAR(results[0][i], results[1][i], 1e-4) << i;
    }
  }
}

}  // namespace
}  // namespace pith
