// The reference encoder of an encoding is plain rounding; integers have a faster form of the same
// (bit for bit, see the tests).

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/buffer.h"
#include "formats/encodings/int_group.h"
#include "quant/grid.h"
#include "quant/method.h"

namespace pith {

void encode_minmax(const RowJob& job) {
  const Encoding& e = job.encoding;
  if (e.is_sparse()) return encode_kept(job, encode_minmax);
  thread_local Buffer<float> masked;
  const float* const rows = masked_rows(job, &masked);
  if (e.kind != EncodingKind::kInt) {
    return ops(e.kind).encode(e, job.n, job.k, job.row, job.rows, rows, job.tensor_absmax, job.to);
  }
  const GridKernels& grid = grid_kernels();
  const GroupLayout l(e, job.n, job.k);
  const auto groups = static_cast<size_t>(l.groups);
  const auto top = static_cast<float>((1 << e.bits) - 1);
  std::vector<float> scales(groups), lows(groups);
  std::vector<uint8_t> zeros(groups), codes(static_cast<size_t>(job.k));
  for (int64_t r = 0; r < job.rows; ++r) {
    const float* x = rows + r * job.k;
    for (size_t g = 0; g < groups; ++g) {
      const int64_t begin = l.group_begin(static_cast<int64_t>(g)),
                    end = l.group_end(static_cast<int64_t>(g));
      float high;
      grid.range(x + begin, end - begin, &lows[g], &high);
      scales[g] = e.symmetric ? 2 * std::max(-lows[g], high) / top : (high - lows[g]) / top;
    }
    store_scales(e, l, job.to, job.row + r, scales);
    for (size_t g = 0; g < groups; ++g) {
      const int64_t begin = l.group_begin(static_cast<int64_t>(g)),
                    end = l.group_end(static_cast<int64_t>(g));
      const float inverse = scales[g] != 0 ? 1 / scales[g] : 0;
      float zero = static_cast<float>(1 << (e.bits - 1));
      if (!e.symmetric) zero = std::clamp(std::nearbyint(-lows[g] * inverse), 0.0f, top);
      zeros[g] = static_cast<uint8_t>(zero);
      grid.codes(x + begin, end - begin, inverse, -zero, top - zero, codes.data() + begin);
    }
    store_row(job, l, r, scales, zeros, codes);
  }
}

}  // namespace pith
