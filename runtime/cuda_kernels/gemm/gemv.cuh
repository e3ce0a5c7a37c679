// Quantized GEMV for up to 8 tokens:
//   y[t, r] (+)= x.scales[t] * sum over groups of s[r, group] * (sum of value[r, i] x[t, i]) +
//                bias[r]
//
// w       [n, k] in the layout of weight_tiles.h; value = code - zero, or the float of a code
// x       [m, stride] f16 or int8, rows of whole stages, 16-byte aligned, 0 from column k on
// y       [m, n] f32, rows at ldy
// needs   1 <= m <= 8; stride >= 128 * stages                        (checked by the launcher);
//         weights that were there before the kernel before this one began
// sums    gemm_math.cuh; a warp a part of the columns (gemm_plan.h), whose sums are added in
//         order: an element does not depend on m, on the grid, or on what else is there
// grid    x: a block of 8 warps a tile of 16 rows, of all weights; 4 KiB of shared memory
// bound   memory: bytes of w (bench/gpu)
//
// The weights are operand A of the mma and tokens operand B, so that 8 tokens take one mma: one
// token is no slower than 8, and codes go from global memory to registers without shared memory.
#pragma once

#include "runtime/cuda_kernels/device/device.cuh"
#include "runtime/cuda_kernels/gemm/gemm_math.cuh"
#include "runtime/cuda_kernels/gemm/gemm_plan.h"

namespace pith::cuda {
namespace {

// The part of a stage that a lane loads ahead: codes, and scales and zeros of its groups.
template <NumberFormat format, int kGroups>
struct StageOfLane {
  Lane<format> lane;
  GroupOfLane groups[kGroups];
};

// Accumulates a warp's part of the columns (split-K). kSteps: mma steps of a group (8: or longer).
template <class Math, int kSteps, class Inputs>
PITH_DEVICE void multiply_part(const TileWeight& w, int64_t tile, const Inputs& x_of,
                               const uint32_t* table, typename Math::Sum* total) {
  using Sum = typename Math::Sum;
  constexpr NumberFormat format = Math::format;
  constexpr int kGroups = 8 / kSteps, kUnits = 8 / Math::kStepsOfUnit,
                kUnitsOfGroup = kUnits / kGroups;
  // As many stages are loaded ahead as some 60 registers hold.
  constexpr int kRegisters = 2 * (parts_of(format).low + parts_of(format).high) + 3 * kGroups,
                kAhead = 60 / kRegisters > 4   ? 4
                         : 60 / kRegisters < 2 ? 2
                                               : 60 / kRegisters;
  const int g = lane() / 4, t = lane() % 4;
  const CodesOfLane<format> from(w, tile, lane());
  const GroupsOfLane groups(w, tile, g);
  const auto stages = static_cast<int32_t>(w.stages),
             of_part = static_cast<int32_t>(stages_of_part(stages)), first = warp() * of_part,
             end = first + of_part < stages ? first + of_part : stages;

  StageOfLane<format, kGroups> ahead[kAhead];
  const auto load = [&](int slot, int32_t stage) {
    if (stage >= end) return;
    ahead[slot].lane.load(from, stage);
    groups.template load<kGroups>(stage, ahead[slot].groups);
  };
#pragma unroll
  for (int i = 0; i < kAhead; ++i) load(i, first + i);
  wait_for_previous();
  // Where there are fewer tokens, lanes without one multiply the first, for nobody.
  const typename Math::Input* const x_of_lane = x_of.values + (g < x_of.m ? g : 0) * x_of.stride;
  for (int32_t begin = first; begin < end; begin += kAhead) {
#pragma unroll
    for (int slot = 0; slot < kAhead; ++slot) {
      const int32_t stage = begin + slot;
      if (stage >= end) break;
      ahead[slot].lane.link();
      uint32_t x[kUnits][2];
#pragma unroll
      for (int unit = 0; unit < kUnits; ++unit)
        Math::inputs(x_of_lane + int64_t{stage} * kStageColumns, unit, t, x[unit]);
#pragma unroll
      for (int i = 0; i < kGroups; ++i) {
        const GroupOfLane& group = ahead[slot].groups[i];
        typename Math::ZeroPoint zero_point;
        zero_point.set(group.zeros);
        Sum part[4] = {};
#pragma unroll
        for (int unit = i * kUnitsOfGroup; unit < (i + 1) * kUnitsOfGroup; ++unit) {
          uint32_t values[4];
          Math::values(ahead[slot].lane, unit, zero_point, table, values);
          Math::multiply(part, values, x[unit]);
        }
        Sum factors[2];
        Math::factors(groups.type, group.scales, groups.of_rows, factors);
#pragma unroll
        for (int j = 0; j < 4; ++j) total[j] = Math::accumulate(total[j], factors[j / 2], part[j]);
      }
      load(slot, stage + kAhead);
    }
  }
}

// 16 rows of w times up to 8 tokens, by a block of kParts warps.
template <class Math, int kSteps, class Inputs>
PITH_DEVICE void multiply_tile(const TileWeight& w, const float* bias, int64_t tile,
                               const Inputs& x_of, bool add, float* y, int64_t ldy) {
  using Sum = typename Math::Sum;
  const uint32_t* const table = nf4_table<Math::format>();
  Sum total[4] = {};
  multiply_part<Math, kSteps>(w, tile, x_of, table, total);

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
  Math::epilogue(w, bias, r, x_of.scales[token], add, sum, y + token * ldy + r);
}

template <class Math, int kSteps>
PITH_KERNEL quant_gemv_kernel(typename Math::Args a) {
  int64_t tile = block_x();
  int which = 0;
  for (; which < a.count - 1 && tile >= a.to[which].w.tiles; ++which) tile -= a.to[which].w.tiles;
  const TileTarget& to = a.to[which];
  multiply_tile<Math, kSteps>(to.w, to.bias, tile, a.x, a.add, to.y, to.ldy);
}

template <class Math>
Status run_gemv(const typename Math::Args& a, Stream stream) {
  int64_t tiles = 0;
  for (int i = 0; i < a.count; ++i) tiles += a.to[i].w.tiles;
  return by_group_steps<Math>(a.to[0].w, [&](auto steps) {
    return launch(quant_gemv_kernel<Math, decltype(steps)::value>,
                  {tiles, 1, 1, 32 * kParts, kParts * 4 * 32 * 4, true}, stream, a);
  });
}

}  // namespace
}  // namespace pith::cuda
