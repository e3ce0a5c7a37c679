// Products of rounded inputs and 8-bit weights on integer tensor cores.
#include "runtime/cuda/device/device.h"
#include "runtime/cuda/kernels.h"
#include "runtime/cuda/product_tiles.h"
#include "runtime/cuda/tile_codes.h"

namespace pith::cuda {
namespace {

// y[t, r] (+)= float(sum of x[t, i] (code[r, i] - 128)) * (s[r] * x.scales[t]) + bias[r]
//
// w       [n, k], 8-bit codes in the layout of weight_tiles.h, one f16 or bf16 scale a row
// x       [m, stride] int8, rows of whole stages, 0 from column k on
// y       [m, n] f32, rows at ldy
// needs   k <= 65536, so that sums fit int32                         (checked by the launcher)
// sums    exact in int32: their order does not matter, and the result is the CPU's, bit for bit
// grid    as in product_tiles.h
// bound   memory up to some 64 tokens: bytes of w
template <int NT>
PITH_KERNEL int8_product_kernel(Int8Product a) {
  const Place place = place_of<NT>(a);
  const TileTarget& to = a.to[place.which];
  const TileWeight& w = to.w;
  const int64_t tile = place.tile, first = place.first;
  const int g = lane() / 4, t = lane() % 4;

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

  join_warps<NT>(sums, place, w.n, a.x.m, [&](int row, int64_t r, int64_t at, int32_t sum) {
    float scales[2];
    load_scales(w, tile, 0, row % 8, scales);
    float* const y = to.y + at * to.ldy + r;
    const float scale = (row < 8 ? scales[0] : scales[1]) * a.x.scales[at];
    const float v = fmaf(static_cast<float>(sum), scale, a.add ? *y : 0.0f);
    *y = to.bias ? v + to.bias[r] : v;
  });
}

}  // namespace

Status int8_product(const Int8Product& a, Stream stream) {
  if (const Status bad = check_product(a)) return bad;
  for (int i = 0; i < a.count; ++i) {
    if (!takes_int8(a.to[i].w)) return "int8 product: weights of another kind";
  }
  return launch_product(int8_product_kernel<1>, int8_product_kernel<2>, int8_product_kernel<4>, a,
                        stream);
}

}  // namespace pith::cuda
