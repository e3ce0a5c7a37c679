// y[t, r] (+)= x.scales[t] * sum over groups of s[r, group] * (sum of value[r, i] x[t, i]) +
// bias[r], for up to 8 tokens
//
// w       [n, k] in the layout of weight_tiles.h; value = code - zero, or the float of a code
// x       [m, stride] f16 or int8, rows of whole stages, 16-byte aligned, 0 from column k on
// y       [m, n] f32, rows at ldy
// needs   1 <= m <= 8; stride >= 128 * stages                        (checked by the launcher);
//         weights that were there before the kernel before this one began
// sums    product_math.h; a warp a part of the columns (product_plan.h), whose sums are added in
//         order: an element does not depend on m, on the grid, or on what else is there
// grid    x: a block of 8 warps a tile of 16 rows, of all weights; 4 KiB of shared memory
// bound   memory: bytes of w (bench/gpu)
//
// The weights are the first operand of the mma and tokens the second, so that 8 tokens take one
// mma: one token is no slower than 8, and codes go from memory to registers without shared memory.
#pragma once

#include "runtime/cuda/device/device.h"
#include "runtime/cuda/product_math.h"
#include "runtime/cuda/product_plan.h"

namespace pith::cuda {
namespace {

// 16 rows of w times up to 8 tokens, by a block of kParts warps.
template <class Math, class Inputs>
PITH_DEVICE void multiply_tile(const TileWeight& w, const float* bias, int64_t tile,
                               const Inputs& x_of, bool add, float* y, int64_t ldy) {
  using Sum = typename Math::Sum;
  const int g = lane() / 4, t = lane() % 4;
  const uint32_t* const table = nf4_table<Math::codes>();

  Sum total[4] = {};
  Lane<Math::codes> now, next;
  const int64_t of_part = stages_of_part(w.stages), first = warp() * of_part,
                end = first + of_part < w.stages ? first + of_part : w.stages;
  if (first < end) now.load(w, tile * w.stages + first, lane());
  wait_for_previous();
  for (int64_t stage = first; stage < end; ++stage) {
    if (stage + 1 < end) next.load(w, tile * w.stages + stage + 1, lane());
    Sum part[4] = {};
    Sum factors[2];
    uint32_t zeros[2];
#pragma unroll
    for (int unit = 0; unit < 8 / Math::kStepsOfUnit; ++unit) {
      const int step = Math::kStepsOfUnit * unit;
      if (begins_group(w, step)) {
        const int64_t at = ((tile * w.groups + group_at(w, stage, step)) * 8 + g) * 2;
        Math::read_factors(w.scale_type, w.scales, at, row_scales_of(w, tile, g), factors);
        read_zeros(w, w.zeros, at, zeros);
      }
      uint32_t values[4], x[2] = {0, 0};
      Math::values(now, unit, zeros, table, values);
      if (g < x_of.m)
        Math::inputs(x_of.values + g * x_of.stride + stage * kStageColumns, unit, t, x);
      Math::multiply(part, values, x);
      if (step + Math::kStepsOfUnit < 8 && !begins_group(w, step + Math::kStepsOfUnit)) continue;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        total[i] = Math::join(total[i], factors[i / 2], part[i]);
        part[i] = 0;
      }
    }
    now = next;
  }

  auto* const sums = reinterpret_cast<Sum*>(shared_memory());  // [warp][i][lane]
  sync_block();                                                // the table of nf4 lies there too
#pragma unroll
  for (int i = 0; i < 4; ++i) sums[(warp() * 4 + i) * 32 + lane()] = total[i];
  sync_block();
  const int e = thread_index(), row = e % 16, token = e / 16;
  const int64_t r = tile * kTileRows + row;
  if (r >= w.n || token >= x_of.m) return;
  const int of_lane = row % 8 * 4 + token / 2, i = row / 8 * 2 + token % 2;
  Sum sum = 0;
  for (int from = 0; from < kParts; ++from) sum += sums[(from * 4 + i) * 32 + of_lane];
  Math::finish(w, bias, r, x_of.scales[token], add, sum, y + token * ldy + r);
}

template <class Math>
PITH_KERNEL tile_product_kernel(typename Math::Product a) {
  int64_t tile = block_x();
  int which = 0;
  for (; which < a.count - 1 && tile >= a.to[which].w.tiles; ++which) tile -= a.to[which].w.tiles;
  const TileTarget& to = a.to[which];
  multiply_tile<Math>(to.w, to.bias, tile, a.x, a.add, to.y, to.ldy);
}

template <class Math>
Status run_tile_product(const typename Math::Product& a, Stream stream) {
  int64_t tiles = 0;
  for (int i = 0; i < a.count; ++i) tiles += a.to[i].w.tiles;
  return launch(tile_product_kernel<Math>, {tiles, 1, 1, 32 * kParts, kParts * 4 * 32 * 4, true},
                stream, a);
}

}  // namespace
}  // namespace pith::cuda
