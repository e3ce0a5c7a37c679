// The product of tile_product.h for more than 8 tokens, the same bits.
//
// w x y   as there
// needs   a plan of product_plan.h, and the room that it asks for     (checked by the launcher)
// sums    product_math.h; parts of the columns one after the other, added in order; where blocks
//         share rows and tokens, each leaves the sums of its parts in the room, and the last to
//         come adds them all, in order
// grid    x: a block 32 rows a warp, of all weights, by 8 NT tokens, by splits; blocks of the same
//         codes side by side so that they come from the L2 cache
// shared  shared_bytes(): inputs, codes, scales and zeros of some stages on their way, and sums
// bound   memory up to some 32 tokens: bytes of w; then tensor cores (bench/gpu)
//
// Inputs are in shared memory for all warps; a warp's own codes pass through it because that lets
// several stages be on their way without registers.
#pragma once

#include "runtime/cuda/device/device.h"
#include "runtime/cuda/product_math.h"
#include "runtime/cuda/product_plan.h"

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
PITH_DEVICE void copy_by_warp(unsigned char* to, const void* from, int64_t pieces) {
#pragma unroll 1
  for (int64_t i = lane(); i < pieces; i += 32)
    copy_async16(to + 16 * i, static_cast<const unsigned char*>(from) + 16 * i, true);
}
PITH_DEVICE int64_t scale_element_bytes(Scales type) {
  return type == Scales::kNone ? 0 : type == Scales::kF32 ? 4 : type == Scales::kTwoLevels ? 1 : 2;
}
// Those of all groups of a stage and a tile, one behind the other.
PITH_DEVICE void copy_groups(const TileWeight& w, int64_t tile, int64_t stage, unsigned char* to) {
  const int every = w.steps_per_group == 0 || w.steps_per_group > 8 ? 8 : w.steps_per_group;
  const int64_t bytes = scale_element_bytes(w.scale_type);
#pragma unroll 1
  for (int step = 0, i = 0; step < 8; step += every, ++i) {
    const int64_t at = (tile * w.groups + group_at(w, stage, step)) * 16;
    copy_by_warp(to + 16 * bytes * i, static_cast<const unsigned char*>(w.scales) + bytes * at,
                 bytes);
    if (w.zeros) copy_by_warp(to + kScaleBytes + 16 * i, w.zeros + at, 1);
  }
}

// The product of a block: rows from place.tile on, tokens from place.first on, of x.m. Token t is
// row row_of(t) of x, and of y as it is.
template <class Math, int NT, class Inputs, class RowOf>
PITH_DEVICE void multiply_block(const TileWeight& w, const float* bias, const Inputs& x_of,
                                RowOf row_of, const ProductPlan& plan, const ProductRoom& room_of,
                                const BlockPlace& place, bool add, float* y, int64_t ldy) {
  using Sum = typename Math::Sum;
  using Input = typename Math::Input;
  constexpr Codes codes = Math::codes;
  constexpr int kRowBytes = static_cast<int>(input_row_bytes(sizeof(Input))),
                kCodes = static_cast<int>(code_bytes(codes)),
                kOfTile = kCodes + static_cast<int>(kScaleBytes + kZeroBytes),
                kTiles = static_cast<int>(kRowTiles);  // of a warp
  constexpr int kMine = kTiles * NT * 4;               // sums of a thread
  const int g = lane() / 4, t = lane() % 4;
  const int tile = place.tile + kTiles * warp();
  const int depth = plan.stages;

  const uint32_t* const table = nf4_table<codes>();
  unsigned char* const base = shared_memory() + (codes == Codes::kNf4 ? kNf4TableBytes : 0);
  const auto kept = [&](int i) -> Sum& {
    return reinterpret_cast<Sum*>(base)[i * block_threads() + thread_index()];
  };
  unsigned char* const stages = base + (plan.splits == 1 ? kMine * block_threads() * 4 : 0);
  const int all_bytes =
      static_cast<int>(stage_bytes(codes, sizeof(Input), 8 * NT, block_threads() / 32));

  const int count = static_cast<int>(w.stages), of_part = static_cast<int>(stages_of_part(count)),
            of_split = of_part * (static_cast<int>(kParts) / plan.splits),
            begin = place.split * of_split,
            end = begin + of_split < count ? begin + of_split : count;

  const auto fetch_inputs = [&](int stage) {
    unsigned char* const slot = stages + stage % depth * all_bytes;
    constexpr int kPieces = kStageColumns * sizeof(Input) / 16;
#pragma unroll 1
    for (int e = thread_index(); e < 8 * NT * kPieces; e += block_threads()) {
      const int token = e / kPieces, piece = e % kPieces;
      const bool valid = place.first + token < x_of.m;
      const Input* const row =
          x_of.values + (valid ? row_of(place.first + token) : 0) * x_of.stride;
      copy_async16(slot + token * kRowBytes + 16 * piece,
                   row + stage * kStageColumns + piece * (16 / static_cast<int>(sizeof(Input))),
                   valid);
    }
  };
  const auto fetch_weights = [&](int stage) {
    unsigned char* const slot = stages + stage % depth * all_bytes;
#pragma unroll
    for (int r = 0; r < kTiles; ++r) {
      if (tile + r >= w.tiles) break;
      unsigned char* const of_tile = slot + 8 * NT * kRowBytes + (kTiles * warp() + r) * kOfTile;
      constexpr Parts kBits = parts_of(codes);
      const int64_t at = static_cast<int64_t>(tile + r) * count + stage;
      copy_by_warp(of_tile, codes_at<kBits.low>(w.low, at), 16 * kBits.low);
      if constexpr (kBits.high > 0)
        copy_by_warp(of_tile + 256 * kBits.low, codes_at<kBits.high>(w.high, at), 16 * kBits.high);
      copy_groups(w, tile + r, stage, of_tile + kCodes);
    }
  };

  Sum total[kMine] = {};
  for (int i = 0; i < depth - 1 && begin + i < end; ++i) fetch_weights(begin + i);
  wait_for_previous();
  for (int i = 0; i < depth - 1; ++i) {
    if (begin + i < end) fetch_inputs(begin + i);
    commit_copies();  // with the first, weights of all
  }
  for (int stage = begin; stage < end; ++stage) {
    if (depth == 2)
      wait_copies<0>();
    else if (depth == 3)
      wait_copies<1>();
    else
      wait_copies<2>();
    sync_block();
    if (stage + depth - 1 < end) {
      fetch_weights(stage + depth - 1);
      fetch_inputs(stage + depth - 1);
    }
    commit_copies();

    const unsigned char* const slot = stages + stage % depth * all_bytes;
    const unsigned char* const of_warp = slot + 8 * NT * kRowBytes + kTiles * warp() * kOfTile;
    Lane<codes> lanes[kTiles];
    Sum part[kMine] = {};
    uint32_t zeros[kTiles][2];
    int group = 0;
#pragma unroll
    for (int unit = 0; unit < 8 / Math::kStepsOfUnit; ++unit) {
      const int step = Math::kStepsOfUnit * unit;
      uint32_t values[kTiles][4];
#pragma unroll
      for (int r = 0; r < kTiles; ++r) {
        if (begins_group(w, step))
          read_zeros(w, of_warp + r * kOfTile + kCodes + kScaleBytes, (group * 8 + g) * 2,
                     zeros[r]);
#pragma unroll
        for (int i = 0; i < Math::kStepsOfUnit; ++i)
          lanes[r].load_shared(of_warp + r * kOfTile, lane(), step + i);
        Math::values(lanes[r], unit, zeros[r], table, values[r]);
      }
#pragma unroll
      for (int nt = 0; nt < NT; ++nt) {
        uint32_t x[2];
        Math::inputs(reinterpret_cast<const Input*>(slot + (8 * nt + g) * kRowBytes), unit, t, x);
#pragma unroll
        for (int r = 0; r < kTiles; ++r) Math::multiply(part + (r * NT + nt) * 4, values[r], x);
      }
      if (step + Math::kStepsOfUnit < 8 && !begins_group(w, step + Math::kStepsOfUnit)) continue;
#pragma unroll
      for (int r = 0; r < kTiles; ++r) {
        Sum factors[2];
        const int64_t there = tile + r < w.tiles ? tile + r : w.tiles - 1;
        Math::read_factors(w.scale_type, of_warp + r * kOfTile + kCodes, (group * 8 + g) * 2,
                           row_scales_of(w, there, g), factors);
#pragma unroll
        for (int i = 0; i < 4 * NT; ++i) {
          Sum* const at = total + r * 4 * NT + i;
          *at = Math::join(*at, factors[i % 4 / 2], part[r * 4 * NT + i]);
          part[r * 4 * NT + i] = 0;
        }
      }
      ++group;
    }

    if ((stage + 1) % of_part != 0 && stage + 1 < end) continue;
    const int of = stage / of_part;  // the part that ends here
    if (plan.splits > 1) {
      Sum* const room = static_cast<Sum*>(room_of.sums) +
                        (static_cast<int64_t>(place.id) * kParts + of) * kMine * block_threads() +
                        thread_index();
#pragma unroll
      for (int i = 0; i < kMine; ++i) room[i * block_threads()] = total[i];
    } else {
#pragma unroll
      for (int i = 0; i < kMine; ++i) kept(i) = (of > 0 ? kept(i) : Sum(0)) + total[i];
    }
#pragma unroll
    for (int i = 0; i < kMine; ++i) total[i] = 0;
  }

  if (plan.splits > 1) {
    if (!comes_last(room_of.arrived + place.id, plan.splits, reinterpret_cast<int32_t*>(base)))
      return;
    const int parts = (count + of_part - 1) / of_part;
    for (int of = 0; of < parts; ++of) {
      const Sum* const room =
          static_cast<const Sum*>(room_of.sums) +
          (static_cast<int64_t>(place.id) * kParts + of) * kMine * block_threads() + thread_index();
#pragma unroll
      for (int i = 0; i < kMine; ++i) total[i] += load_fresh(room + i * block_threads());
    }
  }
#pragma unroll
  for (int i = 0; i < kMine; ++i) {
    const int64_t row = (tile + i / (4 * NT)) * int64_t{kTileRows} + g + i % 4 / 2 * 8,
                  token = place.first + i / 4 % NT * 8 + 2 * t + i % 2;
    const Sum sum = plan.splits > 1 ? total[i] : kept(i);
    if (row < w.n && token < x_of.m)
      Math::finish(w, bias, row, x_of.scales[row_of(token)], add, sum, y + token * ldy + row);
  }
}

template <class Math, int NT>
PITH_KERNEL block_product_kernel(typename Math::Product a) {
  int which;
  const BlockPlace place = block_place<NT>(a, &which);
  const TileTarget& to = a.to[which];
  const auto same = [](int64_t token) { return token; };
  multiply_block<Math, NT>(to.w, to.bias, a.x, same, a.plan, a.room, place, a.add, to.y, to.ldy);
}

template <class Math>
Status run_block_product(const typename Math::Product& a, Stream stream) {
  const ProductPlan& p = a.plan;
  const Grid grid{blocks_of(a, p) * p.splits,
                  1,
                  1,
                  32 * p.warps,
                  shared_bytes(Math::codes, sizeof(typename Math::Input), p),
                  true};
  if (p.tokens == 16) return launch(block_product_kernel<Math, 2>, grid, stream, a);
  if (p.tokens == 32) return launch(block_product_kernel<Math, 4>, grid, stream, a);
  return launch(block_product_kernel<Math, 8>, grid, stream, a);
}

}  // namespace
}  // namespace pith::cuda
