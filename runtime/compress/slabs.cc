#include "runtime/compress/slabs.h"

#include <algorithm>
#include <numeric>

namespace pith {
namespace {

int64_t slab_of(int64_t step, int64_t n, int64_t k) {
  constexpr int64_t kWeights = 1 << 18;  // 1 MiB of f32
  return std::min(n, step * std::max<int64_t>(1, kWeights / std::max<int64_t>(1, step * k)));
}

}  // namespace

int64_t row_step(const Encoding& e, int64_t n, int64_t k) {
  return e.has_tensor_scale() ? 1 : row_unit(e, n, k);
}

int64_t slab_rows(const Encoding& e, int64_t n, int64_t k) {
  return slab_of(row_step(e, n, k), n, k);
}

int64_t slab_rows(const Linear& linear) {
  int64_t step = 1;
  for (const auto& t : linear.terms) {
    const Weight& rows = t.up ? *t.up : t.w;
    step = std::lcm(step, row_step(rows.encoding, rows.n, rows.k));
  }
  return slab_of(step, linear.n, linear.k);
}

}  // namespace pith
