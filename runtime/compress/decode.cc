#include "runtime/compress/decode.h"

#include <algorithm>

#include "runtime/cpu/matmul.h"

namespace pith {

int64_t row_step(const Encoding& e, int64_t n, int64_t k) {
  return e.has_tensor_scale() ? 1 : row_unit(e, n, k);
}

int64_t slab_rows(const Encoding& e, int64_t n, int64_t k) {
  const int64_t unit = row_step(e, n, k);
  constexpr int64_t kWeights = 1 << 18;  // 1 MiB of f32
  return std::min(n, unit * std::max<int64_t>(1, kWeights / std::max<int64_t>(1, unit * k)));
}

void fast_rows(const Linear& linear, int64_t row, int64_t rows, float* out) {
  if (linear.terms.size() == 1 && !linear.terms[0].up) {
    decode_with_kernels(cpu_kernels(), linear.terms[0].w, row, rows, out);
  } else {
    dense_rows(linear, row, rows, out);
  }
}

}  // namespace pith
