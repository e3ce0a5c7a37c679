#include "core/linalg.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>

#include "core/bytes.h"
#include "core/parallel.h"

extern "C" {
void dpotrf_(const char* uplo, const int* n, double* a, const int* lda, int* info);
void dposv_(const char* uplo, const int* n, const int* nrhs, double* a, const int* lda, double* b,
            const int* ldb, int* info);
}

namespace pith {
namespace {

// OpenBLAS would start threads of its own under ours.
const bool single_threaded = [] {
  openblas_set_num_threads(1);
  return true;
}();

constexpr int64_t kTile = 256;

// a = L L^T, lower triangular, row-major; reads and writes the lower triangle. Right-looking: a
// diagonal tile, the tiles below it, then everything to the right of those.
bool lower_cholesky(int64_t n, double* a) {
  const int64_t tiles = ceil_div(n, kTile);
  const auto begin = [](int64_t t) { return t * kTile; };
  const auto size = [n](int64_t t) { return static_cast<int>(std::min(kTile, n - t * kTile)); };
  const auto at = [&](int64_t i, int64_t j) { return a + begin(i) * n + begin(j); };
  const int ld = static_cast<int>(n);
  for (int64_t t = 0; t < tiles; ++t) {
    const int width = size(t);
    int info = 0;
    dpotrf_("U", &width, at(t, t), &ld, &info);  // column-major upper is row-major lower
    if (info != 0) return false;
    parallel_for(tiles - t - 1, [&](int64_t i) {
      const int64_t row = t + 1 + i;
      cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, size(row), width,
                  1.0, at(t, t), ld, at(row, t), ld);
    });
    const int64_t rest = tiles - t - 1;
    parallel_for(rest * (rest + 1) / 2, [&](int64_t i) {
      // Pairs (row, column) of the lower triangle, in one count.
      auto r = static_cast<int64_t>((std::sqrt(8.0 * static_cast<double>(i) + 1) - 1) / 2);
      while (r * (r + 1) / 2 > i) --r;
      while ((r + 1) * (r + 2) / 2 <= i) ++r;
      const int64_t row = t + 1 + r, column = t + 1 + i - r * (r + 1) / 2;
      cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, size(row), size(column), width, -1.0,
                  at(row, t), ld, at(column, t), ld, 1.0, at(row, column), ld);
    });
  }
  for (int64_t i = 0; i < n; ++i) {
    if (!(a[i * n + i] > 0) || !std::isfinite(a[i * n + i])) return false;
  }
  return true;
}

}  // namespace

bool upper_cholesky(int64_t n, double* a) {
  (void)single_threaded;
  // Backwards in memory is reversed in both dimensions: upper becomes lower, and back.
  std::reverse(a, a + n * n);
  const bool ok = lower_cholesky(n, a);
  std::reverse(a, a + n * n);
  return ok;
}

bool solve_positive(int64_t n, double* a, int64_t columns, double* b) {
  (void)single_threaded;
  const int order = static_cast<int>(n), count = static_cast<int>(columns);
  int info = 0;
  dposv_("U", &order, &count, a, &order, b, &order, &info);
  return info == 0;
}

}  // namespace pith
