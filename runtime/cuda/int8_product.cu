// Products of rounded inputs and 8-bit weights on integer tensor cores.
#include "runtime/cuda/device/device.h"
#include "runtime/cuda/kernels.h"
#include "runtime/cuda/tile_codes.h"

namespace pith::cuda {
namespace {

constexpr int kWarps = 8;

// y[t, r] (+)= float(sum of x[t, i] (code[r, i] - 128)) * (s[r] * x.scales[t]) + bias[r]
//
// w       [n, k], 8-bit codes in the layout of weight_tiles.h, one f16 or bf16 scale a row
// x       [m, stride] int8, rows of whole stages, 0 from column k on
// y       [m, n] f32, rows at ldy
// needs   k <= 65536, so that sums fit int32                         (checked by the launcher)
// sums    exact in int32: their order does not matter, and the result is the CPU's, bit for bit
// grid    as in tile_product.h
// bound   memory up to some 64 tokens: bytes of w
template <int NT>
PITH_KERNEL int8_product_kernel(Int8Product a) {
  const int64_t token_blocks = (a.x.m + 8 * NT - 1) / (8 * NT);
  int64_t tile = block_x() / token_blocks;
  int which = 0;
  for (; which < a.count - 1 && tile >= a.to[which].w.tiles; ++which) tile -= a.to[which].w.tiles;
  const TileTarget& to = a.to[which];
  const TileWeight& w = to.w;
  const int g = lane() / 4, t = lane() % 4;
  const int64_t first = block_x() % token_blocks * (8 * NT);

  int32_t sums[NT][4] = {};
  Lane<Codes::kInt8> now, next;
  int64_t stage = warp();
  if (stage < w.stages) now.load(w, tile * w.stages + stage, lane());
  for (; stage < w.stages; stage += kWarps) {
    if (stage + kWarps < w.stages) next.load(w, tile * w.stages + stage + kWarps, lane());
#pragma unroll
    for (int two = 0; two < 4; ++two) {  // steps of 16 columns make one product of 32
      uint32_t values[4];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        // A word has the codes of rows g and g + 8 in turns.
        const uint32_t first_word = now.low.w[4 * two + 2 * i],
                       second = now.low.w[4 * two + 2 * i + 1];
        values[2 * i] = even_bytes(first_word, second) ^ 0x80808080u;
        values[2 * i + 1] = odd_bytes(first_word, second) ^ 0x80808080u;
      }
#pragma unroll
      for (int nt = 0; nt < NT; ++nt) {
        const int64_t token = first + 8 * nt + g;
        uint32_t x[2] = {0, 0};
        if (token < a.x.m) {
          const int8_t* const at =
              a.x.values + token * a.x.stride + stage * kStageColumns + 32 * two + 4 * t;
          x[0] = load4(at);
          x[1] = load4(at + 16);
        }
        mma_s8(sums[nt], values, x);
      }
    }
    now = next;
  }

  auto* const all = reinterpret_cast<int32_t*>(shared_memory());  // [warp][nt][i][lane]
#pragma unroll
  for (int nt = 0; nt < NT; ++nt) {
#pragma unroll
    for (int i = 0; i < 4; ++i) all[((warp() * NT + nt) * 4 + i) * 32 + lane()] = sums[nt][i];
  }
  sync_block();
  for (int e = thread_index(); e < 128 * NT; e += 32 * kWarps) {
    const int row = e % 16, token = e / 16 % 8, nt = e / 128;
    const int64_t r = tile * kTileRows + row, at = first + 8 * nt + token;
    if (r >= w.n || at >= a.x.m) continue;
    const int of_lane = row % 8 * 4 + token / 2, i = row / 8 * 2 + token % 2;
    int32_t sum = 0;
    for (int from = 0; from < kWarps; ++from) sum += all[((from * NT + nt) * 4 + i) * 32 + of_lane];
    float scales[2];
    load_scales(w, tile, 0, row % 8, scales);
    float* const y = to.y + at * to.ldy + r;
    const float scale = (row < 8 ? scales[0] : scales[1]) * a.x.scales[at];
    const float v = fmaf(static_cast<float>(sum), scale, a.add ? *y : 0.0f);
    *y = to.bias ? v + to.bias[r] : v;
  }
}

}  // namespace

Status int8_product(const Int8Product& a, Stream stream) {
  if (a.count < 1 || a.count > kMostTargets)
    return "int8 product: a number of weights that it does not take";
  int64_t tiles = 0;
  for (int i = 0; i < a.count; ++i) {
    const TileWeight& w = a.to[i].w;
    if (!takes_int8(w)) return "int8 product: weights of another kind";
    if (a.x.stride < w.stages * kStageColumns) return "int8 product: inputs shorter than rows";
    tiles += w.tiles;
  }
  const auto run = [&](auto kernel, int64_t nt) {
    return launch(kernel,
                  {tiles * ((a.x.m + 8 * nt - 1) / (8 * nt)), 1, 1, 32 * kWarps,
                   nt * kWarps * 4 * 32 * static_cast<int64_t>(sizeof(int32_t))},
                  stream, a);
  };
  if (a.x.m <= 8) return run(int8_product_kernel<1>, 1);
  if (a.x.m <= 16) return run(int8_product_kernel<2>, 2);
  return run(int8_product_kernel<4>, 4);
}

}  // namespace pith::cuda
