// What products of tiles have in common, whatever they sum: which weight, tile and tokens a block
// has, how the sums of its warps come together, and its grid.
//
// grid    x: a block of 8 warps a tile of 16 rows, of all weights, and 8 NT tokens, those of one
//         tile side by side so that its codes come from the L2 cache; 4 NT KiB of shared memory
#pragma once

#include "runtime/cuda/device/device.h"
#include "runtime/cuda/ops.h"

namespace pith::cuda {
namespace {

constexpr int kWarps = 8;

struct Place {
  int which;      // of the weights
  int64_t tile;   // of that weight
  int64_t first;  // token
};
template <int NT, class Product>
PITH_DEVICE Place place_of(const Product& a) {
  const int64_t token_blocks = (a.x.m + 8 * NT - 1) / (8 * NT);
  Place p{0, block_x() / token_blocks, block_x() % token_blocks * (8 * NT)};
  for (; p.which < a.count - 1 && p.tile >= a.to[p.which].w.tiles; ++p.which)
    p.tile -= a.to[p.which].w.tiles;
  return p;
}

// Adds up what the warps have, in order, and calls finish(row of the tile, row, token, sum) for
// every element that there is. What lay in shared memory is lost.
template <int NT, class T, class Finish>
PITH_DEVICE void join_warps(const T (*mine)[4], const Place& p, int64_t n, int64_t m,
                            Finish finish) {
  T* const sums = reinterpret_cast<T*>(shared_memory());  // [warp][nt][i][lane]
  sync_block();
#pragma unroll
  for (int nt = 0; nt < NT; ++nt) {
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[((warp() * NT + nt) * 4 + i) * 32 + lane()] = mine[nt][i];
  }
  sync_block();
  for (int e = thread_index(); e < 128 * NT; e += 32 * kWarps) {
    const int row = e % 16, token = e / 16 % 8, nt = e / 128;
    const int64_t r = p.tile * kTileRows + row, at = p.first + 8 * nt + token;
    if (r >= n || at >= m) continue;
    const int of_lane = row % 8 * 4 + token / 2, i = row / 8 * 2 + token % 2;
    T sum = 0;
    for (int from = 0; from < kWarps; ++from)
      sum += sums[((from * NT + nt) * 4 + i) * 32 + of_lane];
    finish(row, r, at, sum);
  }
}

// The kernel for so many tokens, of those for 8, 16 and 32 a block.
template <class Product>
Status launch_product(void (*of_8)(Product), void (*of_16)(Product), void (*of_32)(Product),
                      const Product& a, Stream stream) {
  const int64_t nt = a.x.m <= 8 ? 1 : a.x.m <= 16 ? 2 : 4;
  int64_t tiles = 0;
  for (int i = 0; i < a.count; ++i) tiles += a.to[i].w.tiles;
  const Grid grid{tiles * ((a.x.m + 8 * nt - 1) / (8 * nt)), 1, 1, 32 * kWarps,
                  nt * kWarps * 4 * 32 * static_cast<int64_t>(sizeof(float))};
  return launch(nt == 1 ? of_8 : nt == 2 ? of_16 : of_32, grid, stream, a);
}

}  // namespace

}  // namespace pith::cuda
