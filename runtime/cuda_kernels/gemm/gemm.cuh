// Quantized GEMM for more than 8 tokens, the same bits as the GEMV.
//
// w x y   as in gemv.cuh
// needs   a plan of gemm_plan.h, and the workspace that it asks for   (checked by the launcher)
// sums    gemm_math.cuh; parts of the columns one after the other, added in order; with split-K
//         each block leaves the sums of its parts in the workspace, and the last to arrive adds
//         them all, in order
// grid    x: a block 32 rows a warp, of all weights, by 8 NT tokens, by splits; blocks of the same
//         codes side by side so that they come from the L2 cache
// shared  shared_bytes(): a ring of stages of inputs, codes, scales and zeros, and accumulators
// bound   memory up to some 32 tokens: bytes of w; then tensor cores (bench/gpu)
//
// Activations are in shared memory for all warps; a warp's own codes pass through it too, because
// asynchronous copies keep several stages in flight without registers.
#pragma once

#include "runtime/cuda_kernels/device/device.cuh"
#include "runtime/cuda_kernels/gemm/gemm_math.cuh"
#include "runtime/cuda_kernels/gemm/gemm_plan.h"

namespace pith::cuda {
namespace {

struct BlockPlace {
  int tile;   // of the weight: the block's first
  int first;  // token
  int split;  // of the columns
  int id;     // of the blocks with these rows and tokens
};
// And of which weight.
template <int NT, class Product>
PITH_DEVICE BlockPlace block_place(const Product& a, int* which) {
  const int m = static_cast<int>(a.x.m), token_blocks = (m + 8 * NT - 1) / (8 * NT),
            tiles = static_cast<int>(kRowTiles) * (block_threads() / 32);
  const int block = static_cast<int>(block_x()), of_split = block / token_blocks;
  BlockPlace p;
  p.first = block % token_blocks * (8 * NT);
  p.split = of_split % a.plan.splits;
  int rows = of_split / a.plan.splits;
  p.id = rows * token_blocks + block % token_blocks;
  for (*which = 0; *which < a.count - 1; ++*which) {
    const int of_weight = (static_cast<int>(a.to[*which].w.tiles) + tiles - 1) / tiles;
    if (rows < of_weight) break;
    rows -= of_weight;
  }
  p.tile = rows * tiles;
  return p;
}

// Pieces of 16 bytes in the background, by the lanes of a warp.
template <int kPieces>
PITH_DEVICE void copy_by_warp(unsigned char* to, const unsigned char* from) {
#pragma unroll
  for (int first = 0; first < kPieces; first += 32) {
    const int i = first + lane();
    if (kPieces % 32 == 0 || i < kPieces) copy_async16(to + 16 * i, from + 16 * i, true);
  }
}

// The output tile of a block: rows from place.tile on, tokens from place.first on, of x.m. Token t
// is row row_of(t) of x, and row t of y.
template <class Math, int NT, int kSteps, class Inputs, class RowOf>
PITH_DEVICE void multiply_block(const TileWeight& w, const float* bias, const Inputs& x_of,
                                RowOf row_of, const GemmPlan& plan,
                                const GemmWorkspace& workspace_of, const BlockPlace& place,
                                bool add, float* y, int64_t ldy) {
  using Sum = typename Math::Sum;
  using Input = typename Math::Input;
  constexpr NumberFormat format = Math::format;
  constexpr int kLow = parts_of(format).low, kHigh = parts_of(format).high,
                kRowBytes = static_cast<int>(input_row_bytes(sizeof(Input))),
                kCodes = static_cast<int>(code_bytes(format)),
                kOfTile = kCodes + static_cast<int>(kScaleBytes + kZeroBytes),
                kTiles = static_cast<int>(kRowTiles);  // of a warp
  constexpr int kMine = kTiles * NT * 4;               // sums of a thread
  constexpr int kGroups = 8 / kSteps, kUnitsOfGroup = kSteps / Math::kStepsOfUnit;
  const int g = lane() / 4, t = lane() % 4;
  const int tile = place.tile + kTiles * warp();
  const int depth = plan.stages;

  const uint32_t* const table = nf4_table<format>();
  unsigned char* const base = shared_memory() + (format == NumberFormat::kNf4 ? kNf4TableBytes : 0);
  const auto kept = [&](int i) -> Sum& {
    return reinterpret_cast<Sum*>(base)[i * block_threads() + thread_index()];
  };
  unsigned char* const slots = base + (plan.splits == 1 ? kMine * block_threads() * 4 : 0);
  const int slot_bytes =
                static_cast<int>(stage_bytes(format, sizeof(Input), 8 * NT, block_threads() / 32)),
            all_bytes = depth * slot_bytes;

  const int count = static_cast<int>(w.stages), of_part = static_cast<int>(stages_of_part(count)),
            of_split = of_part * (static_cast<int>(kParts) / plan.splits),
            begin = place.split * of_split,
            end = begin + of_split < count ? begin + of_split : count;

  const auto fetch_inputs = [&](int stage, int slot) {
    constexpr int kPieces = kStageColumns * sizeof(Input) / 16;
    const int piece = thread_index() % kPieces;
    const Input* const from = x_of.values + int64_t{stage} * kStageColumns +
                              piece * (16 / static_cast<int>(sizeof(Input)));
#pragma unroll 1
    for (int token = thread_index() / kPieces; token < 8 * NT; token += block_threads() / kPieces) {
      const bool valid = place.first + token < x_of.m;
      copy_async16(slots + slot + token * kRowBytes + 16 * piece,
                   from + (valid ? row_of(place.first + token) : 0) * x_of.stride, valid);
    }
  };

  Sum total[kMine] = {};
  const Scales type = w.scale_type;
  const int of_group = 16 * scale_bytes(type);

  const auto fetch_weights = [&](int stage, int slot) {
#pragma unroll
    for (int r = 0; r < kTiles; ++r) {
      if (tile + r >= w.tiles) break;
      unsigned char* const to = slots + slot + 8 * NT * kRowBytes + (kTiles * warp() + r) * kOfTile;
      const int64_t at = int64_t{tile + r} * count + stage;
      copy_by_warp<16 * kLow>(
          to, static_cast<const unsigned char*>(w.low) + at * Words<kLow>::kOfStage);
      if constexpr (kHigh > 0)
        copy_by_warp<16 * kHigh>(to + 256 * kLow, static_cast<const unsigned char*>(w.high) +
                                                      at * Words<kHigh>::kOfStage);
      const int64_t group = w.group_shift == kWholeRow ? tile + r : at * kGroups;
      if (16 * lane() < kGroups * of_group)
        copy_async16(to + kCodes + 16 * lane(),
                     static_cast<const unsigned char*>(w.scales) + group * of_group + 16 * lane(),
                     true);
      if constexpr (is_trellis(format)) {
        if (lane() < 2)
          copy_async16(to + kCodes + kScaleBytes + 16 * lane(), w.tails + at * 8 + 4 * lane(),
                       true);
      }
      if (w.zeros && lane() < kGroups)
        copy_async16(to + kCodes + kScaleBytes + 16 * lane(), w.zeros + group * 16 + 16 * lane(),
                     true);
    }
  };

  for (int i = 0; i < depth - 1 && begin + i < end; ++i) fetch_weights(begin + i, i * slot_bytes);
  wait_for_previous();
  for (int i = 0; i < depth - 1; ++i) {
    if (begin + i < end) fetch_inputs(begin + i, i * slot_bytes);
    commit_copies();  // with the first, weights of all
  }
  int left = of_part, part_index = begin / of_part;
  int slot = 0, free_slot = all_bytes - slot_bytes;
  for (int stage = begin; stage < end; ++stage) {
    if (depth == 2)
      wait_copies<0>();
    else if (depth == 3)
      wait_copies<1>();
    else
      wait_copies<2>();
    sync_block();
    if (stage + depth - 1 < end) {
      fetch_weights(stage + depth - 1, free_slot);
      fetch_inputs(stage + depth - 1, free_slot);
    }
    commit_copies();

    const unsigned char* const inputs = slots + slot + g * kRowBytes;
    const unsigned char* const of_warp =
        slots + slot + 8 * NT * kRowBytes + kTiles * warp() * kOfTile;
    Lane<format> lanes[kTiles];
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      Sum part[kMine] = {};
      typename Math::ZeroPoint zero_point[kTiles];
#pragma unroll
      for (int r = 0; r < kTiles; ++r)
        zero_point[r].set(
            w.zeros ? load2(of_warp + r * kOfTile + kCodes + kScaleBytes + (i * 8 + g) * 2)
                    : static_cast<uint32_t>(w.zero) * 0x101);
#pragma unroll
      for (int unit = i * kUnitsOfGroup; unit < (i + 1) * kUnitsOfGroup; ++unit) {
        if constexpr (NT == 8) sync_warp();  // loads of later units would not fit the registers
        uint32_t values[kTiles][4];
#pragma unroll
        for (int r = 0; r < kTiles; ++r) {
#pragma unroll
          for (int j = 0; j < Math::kStepsOfUnit; ++j)
            lanes[r].load_shared(of_warp + r * kOfTile,
                                 of_warp + r * kOfTile + kCodes + kScaleBytes, lane(),
                                 Math::kStepsOfUnit * unit + j);
          Math::values(lanes[r], unit, zero_point[r], table, values[r]);
        }
#pragma unroll
        for (int nt = 0; nt < NT; ++nt) {
          uint32_t x[2];
          Math::inputs(reinterpret_cast<const Input*>(inputs + 8 * nt * kRowBytes), unit, t, x);
#pragma unroll
          for (int r = 0; r < kTiles; ++r) Math::multiply(part + (r * NT + nt) * 4, values[r], x);
        }
      }
#pragma unroll
      for (int r = 0; r < kTiles; ++r) {
        Sum factors[2];
        uint32_t raw[2] = {};
        load_raw_scales(type, of_warp + r * kOfTile + kCodes + (i * 8 + g) * of_group / 8, raw);
        const int64_t there = tile + r < w.tiles ? tile + r : w.tiles - 1;
        Math::factors(type, raw, w.row_scales ? w.row_scales + (there * 8 + g) * 2 : nullptr,
                      factors);
#pragma unroll
        for (int j = 0; j < 4 * NT; ++j) {
          Sum* const at = total + r * 4 * NT + j;
          *at = Math::accumulate(*at, factors[j % 4 / 2], part[r * 4 * NT + j]);
        }
      }
    }
    slot = slot + slot_bytes == all_bytes ? 0 : slot + slot_bytes;
    free_slot = free_slot + slot_bytes == all_bytes ? 0 : free_slot + slot_bytes;

    if (--left > 0 && stage + 1 < end) continue;
    if (plan.splits > 1) {
      Sum* const workspace =
          static_cast<Sum*>(workspace_of.sums) +
          (static_cast<int64_t>(place.id) * kParts + part_index) * kMine * block_threads() +
          thread_index();
#pragma unroll
      for (int i = 0; i < kMine; ++i) workspace[i * block_threads()] = total[i];
    } else {
#pragma unroll
      for (int i = 0; i < kMine; ++i) kept(i) = (part_index > 0 ? kept(i) : Sum(0)) + total[i];
    }
#pragma unroll
    for (int i = 0; i < kMine; ++i) total[i] = 0;
    left = of_part;
    ++part_index;
  }

  if (plan.splits > 1) {
    if (!comes_last(workspace_of.arrived + place.id, plan.splits, reinterpret_cast<int32_t*>(base)))
      return;
    const int parts = (count + of_part - 1) / of_part;
    for (int of = 0; of < parts; ++of) {
      const Sum* const workspace =
          static_cast<const Sum*>(workspace_of.sums) +
          (static_cast<int64_t>(place.id) * kParts + of) * kMine * block_threads() + thread_index();
#pragma unroll
      for (int i = 0; i < kMine; ++i) total[i] += load_fresh(workspace + i * block_threads());
    }
  }
#pragma unroll
  for (int i = 0; i < kMine; ++i) {
    const int64_t row = (tile + i / (4 * NT)) * int64_t{kTileRows} + g + i % 4 / 2 * 8,
                  token = place.first + i / 4 % NT * 8 + 2 * t + i % 2;
    const Sum sum = plan.splits > 1 ? total[i] : kept(i);
    if (row < w.n && token < x_of.m)
      Math::epilogue(w, bias, row, x_of.scales[row_of(token)], add, sum, y + token * ldy + row);
  }
}

template <class Math, int NT, int kSteps>
PITH_KERNEL quant_gemm_kernel(typename Math::Args a) {
  int which;
  const BlockPlace place = block_place<NT>(a, &which);
  const TileTarget& to = a.to[which];
  const auto same = [](int64_t token) { return token; };
  multiply_block<Math, NT, kSteps>(to.w, to.bias, a.x, same, a.plan, a.workspace, place, a.add,
                                   to.y, to.ldy);
}

template <class Math>
Status run_gemm_blocks(const typename Math::Args& a, Stream stream) {
  const GemmPlan& p = a.plan;
  const Grid grid{blocks_of(a, p) * p.splits,
                  1,
                  1,
                  32 * p.warps,
                  shared_bytes(Math::format, sizeof(typename Math::Input), p),
                  true};
  return by_group_steps<Math>(a.to[0].w, [&](auto steps) {
    constexpr int kSteps = decltype(steps)::value;
    if (p.tokens == 16) return launch(quant_gemm_kernel<Math, 2, kSteps>, grid, stream, a);
    if (p.tokens == 32) return launch(quant_gemm_kernel<Math, 4, kSteps>, grid, stream, a);
    if constexpr (max_tokens(Math::format, kSteps) == 64)
      return launch(quant_gemm_kernel<Math, 8, kSteps>, grid, stream, a);
    return refuse("quant_gemm: a plan of %ld tokens for format %ld", p.tokens, Math::format);
  });
}

}  // namespace
}  // namespace pith::cuda
