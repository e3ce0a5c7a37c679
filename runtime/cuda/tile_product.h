// y[t, r] (+)= x.scales[t] * sum over groups of s[r, group] * (sum of value[r, i] x[t, i]) +
// bias[r]
//
// w       [n, k] in the layout of weight_tiles.h, value = code - zero, or the float that a code
// means x       [m, stride] f16, 16-byte aligned rows of whole stages, 0 from column k on y [m, n]
// f32, rows at ldy needs   1 <= m; stride >= 128 * stages                                  (checked
// by the launcher) sums    values are exact in f16 (nf4 is rounded to it; bf16 weights meet x in
// two bf16 parts), products
//         and their sums are those of mma in f32, a group at a time; stages go to 8 warps in turns,
//         whose sums are added in order: an element does not depend on m, on the grid, or on what
//         else is there
// grid    x: a block of 8 warps a tile of 16 rows; y: 8 NT tokens. 4 NT KiB of shared memory
// bound   memory up to some 64 tokens: bytes of w, read once for 8 NT tokens (bench/gpu)
//
// The weights are the first operand of the mma and tokens the second, so that 8 tokens take one
// mma: one token is no slower than 8, and codes go from memory to registers without shared memory.
#pragma once

#include "runtime/cuda/device/device.h"
#include "runtime/cuda/ops.h"
#include "runtime/cuda/values.h"

namespace pith::cuda {
namespace {

constexpr int kWarps = 8;

// The codes of a lane for one stage, on their way.
template <int bits>
struct Words {
  uint32_t w[2 * bits > 0 ? 2 * bits : 1];

  PITH_MEMBER void load(const void* codes, int64_t stage, int of_lane) {
    const auto* const at = static_cast<const unsigned char*>(codes) + stage * (32 * 8 * bits) +
                           of_lane * (bits == 1 ? 8 : 16);
    if constexpr (bits == 1) {
      const Bytes8 v = load_once8(at);
      w[0] = v.w[0];
      w[1] = v.w[1];
    } else if constexpr (bits > 1) {
#pragma unroll
      for (int c = 0; c < bits / 2; ++c) {
        const Bytes16 v = load_once16(at + 512 * c);
#pragma unroll
        for (int i = 0; i < 4; ++i) w[4 * c + i] = v.w[i];
      }
    }
  }
  // The two codes of pair `pair` in the halves of a register.
  PITH_MEMBER uint32_t pair(int pair) const {
    constexpr int in_word = 16 / (bits > 0 ? bits : 1);
    constexpr uint32_t mask = ((1u << bits) - 1) * 0x10001u;
    if constexpr (bits == 16) {
      return w[pair];
    } else {
      return w[pair / in_word] >> (bits * (pair % in_word)) & mask;
    }
  }
};

template <Codes codes>
struct Lane {
  static constexpr Parts kParts = parts_of(codes);
  Words<kParts.low> low;
  Words<kParts.high> high;

  PITH_MEMBER void load(const TileWeight& w, int64_t stage, int of_lane) {
    low.load(w.low, stage, of_lane);
    if constexpr (kParts.high > 0) high.load(w.high, stage, of_lane);
  }
  PITH_MEMBER uint32_t pair(int i) const {
    if constexpr (kParts.high > 0) return low.pair(i) | high.pair(i) << kParts.low;
    return low.pair(i);
  }
};

// Scales of two rows, r and r + 8, of one group.
PITH_DEVICE void load_scales(const TileWeight& w, int64_t tile, int64_t group, int row, float* to) {
  const int64_t at = ((tile * w.groups + group) * 8 + row) * 2;
  if (w.scale_type == Scales::kF16 || w.scale_type == Scales::kBF16) {
    const auto* const s = static_cast<const uint16_t*>(w.scales) + at;
    const bool f16 = w.scale_type == Scales::kF16;
    to[0] = f16 ? half_float(s[0]) : bf16_float(s[0]);
    to[1] = f16 ? half_float(s[1]) : bf16_float(s[1]);
  } else if (w.scale_type == Scales::kTwoLevels) {
    const auto* const s = static_cast<const int8_t*>(w.scales) + at;
    const float* const of_row = w.row_scales + (tile * 8 + row) * 2;
    to[0] = of_row[0] * static_cast<float>(s[0]);
    to[1] = of_row[1] * static_cast<float>(s[1]);
  } else if (w.scale_type == Scales::kF32) {
    to[0] = static_cast<const float*>(w.scales)[at];
    to[1] = static_cast<const float*>(w.scales)[at + 1];
  } else {
    to[0] = to[1] = 1;
  }
}

PITH_DEVICE void load_zeros(const TileWeight& w, int64_t tile, int64_t group, int row,
                            uint32_t* to) {
  const uint8_t* const z = w.zeros ? w.zeros + ((tile * w.groups + group) * 8 + row) * 2 : nullptr;
  to[0] = 0x10001u * (z ? z[0] : static_cast<uint32_t>(w.zero));
  to[1] = 0x10001u * (z ? z[1] : static_cast<uint32_t>(w.zero));
}

template <Codes codes, int NT>
PITH_KERNEL tile_product_kernel(TileProduct a) {
  const TileWeight& w = a.w;
  const int g = lane() / 4, t = lane() % 4;
  const int64_t tile = block_x(), first = block_y() * (8 * NT);
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
      // steps_per_group is a power of two, or 0 for one group a row.
      const int in_group = w.steps_per_group > 0 ? step & (w.steps_per_group - 1) : step;
      if (in_group == 0) {
        int64_t group = 0;
        if (w.steps_per_group > 0) {
          group = (stage * 8 + step) / w.steps_per_group;
          group = group < w.groups ? group : w.groups - 1;  // behind column k, where x is 0
        }
        load_scales(w, tile, group, g, scales);
        load_zeros(w, tile, group, g, zeros);
      }
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
      const bool last = step == 7 || (w.steps_per_group > 0 && in_group == w.steps_per_group - 1);
      if (!last) continue;
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

  // [warp][nt][i][lane]
  float* const sums = reinterpret_cast<float*>(shared_memory());
  sync_block();  // the table of nf4 lies there too
#pragma unroll
  for (int nt = 0; nt < NT; ++nt) {
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[((warp() * NT + nt) * 4 + i) * 32 + lane()] = total[nt][i];
  }
  sync_block();
  for (int e = thread_index(); e < 128 * NT; e += 32 * kWarps) {
    const int row = e % 16, token = e / 16 % 8, nt = e / 128;
    const int64_t r = tile * kTileRows + row, at = first + 8 * nt + token;
    if (r >= w.n || at >= a.x.m) continue;
    const int of_lane = row % 8 * 4 + token / 2, i = row / 8 * 2 + token % 2;
    float sum = 0;
    for (int from = 0; from < kWarps; ++from)
      sum += sums[((from * NT + nt) * 4 + i) * 32 + of_lane];
    float v = sum * a.x.scales[at] * kValueFactor<codes>;
    if (a.bias) v += a.bias[r];
    float* const y = a.y + at * a.ldy + r;
    *y = a.add ? *y + v : v;
  }
}

template <Codes codes>
Status run_tile_product(const TileProduct& a, Stream stream) {
  const auto run = [&](auto kernel, int64_t nt) {
    return launch(kernel,
                  {a.w.tiles, (a.x.m + 8 * nt - 1) / (8 * nt), 1, 32 * kWarps,
                   nt * kWarps * 4 * 32 * static_cast<int64_t>(sizeof(float))},
                  stream, a);
  };
  if (a.x.m <= 8) return run(tile_product_kernel<codes, 1>, 1);
  if (a.x.m <= 16) return run(tile_product_kernel<codes, 2>, 2);
  return run(tile_product_kernel<codes, 4>, 4);
}

}  // namespace

// One file of instances each.
Status tile_product_small(const TileProduct& a, Stream stream);   // 2 to 4 bits, nf4
Status tile_product_middle(const TileProduct& a, Stream stream);  // 5 to 8 bits
Status tile_product_floats(const TileProduct& a, Stream stream);  // floats of 8 and 16 bits

}  // namespace pith::cuda
