// y[t, r] (+)= x.scales[t] * sum over groups of s[r, group] * (sum of value[r, i] x[t, i]) +
// bias[r]
//
// w       [n, k] in the layout of weight_tiles.h; value = code - zero, or the float of a code
// x       [m, stride] f16, rows of whole stages, 16-byte aligned, 0 from column k on
// y       [m, n] f32, rows at ldy
// needs   1 <= m; stride >= 128 * stages                             (checked by the launcher)
// sums    values are exact in f16 (nf4 is rounded to it; bf16 weights meet x in two bf16 parts),
//         products and their sums those of mma in f32, a group at a time; stages go to 8 warps in
//         turns, whose sums are added in order: an element does not depend on m, on the grid, or on
//         what else is there
// grid    as in product_tiles.h
// bound   memory up to some 64 tokens: bytes of w (bench/gpu)
//
// The weights are the first operand of the mma and tokens the second, so that 8 tokens take one
// mma: one token is no slower than 8, and codes go from memory to registers without shared memory.
#pragma once

#include "runtime/cuda/device/device.h"
#include "runtime/cuda/ops.h"
#include "runtime/cuda/product_tiles.h"
#include "runtime/cuda/tile_codes.h"

namespace pith::cuda {
namespace {

template <Codes codes, int NT>
PITH_KERNEL tile_product_kernel(TileProduct a) {
  const Place place = place_of<NT>(a);
  const TileTarget& to = a.to[place.which];
  const TileWeight& w = to.w;
  const int64_t tile = place.tile, first = place.first;
  const int g = lane() / 4, t = lane() % 4;
  const uint32_t* const table = nf4_table<codes>();

  float total[NT][4] = {};
  Lane<codes> now, next;
  int64_t stage = warp();
  if (stage < w.stages) now.load(w, tile * w.stages + stage, lane());
  for (; stage < w.stages; stage += kWarps) {
    if (stage + kWarps < w.stages) next.load(w, tile * w.stages + stage + kWarps, lane());
    float part[NT][4] = {};
    float scales[2];
    uint32_t zeros[2];
#pragma unroll
    for (int step = 0; step < 8; ++step) {
      if (begins_group(w, step)) load_group(w, tile, stage, step, g, scales, zeros);
      uint32_t values[4];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        values[i] = value_pair<codes>(now.pair(4 * step + i), zeros[i % 2], table);
#pragma unroll
      for (int nt = 0; nt < NT; ++nt) {
        const int64_t token = first + 8 * nt + g;
        uint32_t x[2] = {0, 0};
        if (token < a.x.m) {
          const Bytes8 v = load8(a.x.values + token * a.x.stride + stage * kStageColumns +
                                 step * kStepColumns + 4 * t);
          x[0] = v.w[0];
          x[1] = v.w[1];
        }
        multiply<codes>(part[nt], values, x);
      }
      if (step < 7 && !begins_group(w, step + 1)) continue;
#pragma unroll
      for (int nt = 0; nt < NT; ++nt) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          total[nt][i] = fmaf(scales[i / 2], part[nt][i], total[nt][i]);
          part[nt][i] = 0;
        }
      }
    }
    now = next;
  }

  join_warps<NT>(total, place, w.n, a.x.m, [&](int, int64_t r, int64_t at, float sum) {
    float v = sum * a.x.scales[at] * kValueFactor<codes>;
    if (to.bias) v += to.bias[r];
    float* const y = to.y + at * to.ldy + r;
    *y = a.add ? *y + v : v;
  });
}

template <Codes codes>
Status run_tile_product(const TileProduct& a, Stream stream) {
  return launch_product(tile_product_kernel<codes, 1>, tile_product_kernel<codes, 2>,
                        tile_product_kernel<codes, 4>, a, stream);
}

}  // namespace

// One file of instances each.
Status tile_product_small(const TileProduct& a, Stream stream);   // 2 to 4 bits, nf4
Status tile_product_middle(const TileProduct& a, Stream stream);  // 5 to 8 bits
Status tile_product_floats(const TileProduct& a, Stream stream);  // floats of 8 and 16 bits

}  // namespace pith::cuda
