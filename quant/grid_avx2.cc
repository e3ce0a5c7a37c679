// Grid kernels, avx2: see grid.h.
#ifndef PITH_SCALAR_ONLY
#include "quant/grid.h"

#include <immintrin.h>

#include <bit>

#include "formats/encodings/int_group.h"

namespace pith {
namespace {
#include "quant/grid_body.h"

int64_t select_within(const float* x, int64_t n, float limit, uint16_t* which) {
  const __m256 top = _mm256_set1_ps(limit);
  int64_t count = 0;
  for (int64_t i = 0; i < n; i += 8) {
    const __m256 within = _mm256_cmp_ps(_mm256_loadu_ps(x + i), top, _CMP_LE_OQ);
    for (auto bits = static_cast<uint32_t>(_mm256_movemask_ps(within)); bits != 0; bits &= bits - 1)
      which[count++] = static_cast<uint16_t>(i + std::countr_zero(bits));
  }
  return count;
}
}  // namespace

const GridKernels kGridAvx2 = {range,  project, codes,        sweep,         descend,
                               branch, least,   count_within, select_within, advance};

}  // namespace pith
#endif
