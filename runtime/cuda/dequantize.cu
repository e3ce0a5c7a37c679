// Weights as f16 for cuBLAS, and what is left to do behind it.
#include "runtime/cuda/device/device.h"
#include "runtime/cuda/kernels.h"
#include "runtime/cuda/tile_codes.h"

namespace pith::cuda {
namespace {

constexpr int kThreads = 256;

// to[r, i] = f16(s[r, group] * value[r, i]) for rows of tiles [first, first + count)
//
// to      [16 count, 128 stages] f16, row-major
// grid    x: a warp a tile and stage, 8 warps
// bound   memory: bytes of the codes read, 2 bytes a weight written
template <Codes codes>
PITH_KERNEL dequantize_kernel(Dequantize a) {
  const TileWeight& w = a.w;
  const uint32_t* const table = nf4_table<codes>();
  const int64_t index = block_x() * (kThreads / 32) + warp();
  if (index >= a.count * w.stages) return;
  const int64_t tile = a.first + index / w.stages, stage = index % w.stages;
  const int g = lane() / 4, t = lane() % 4;
  Lane<codes> now;
  now.load(w, tile * w.stages + stage, lane());
  uint16_t* const to = a.to + ((tile - a.first) * kTileRows + g) * w.stages * kStageColumns +
                       stage * kStageColumns + 4 * t;
#pragma unroll
  for (int step = 0; step < 8; ++step) {
    float scales[2];
    uint32_t zeros[2];
    const int64_t group = group_at(w, stage, step);
    load_scales(w, tile, group, g, scales);
    read_zeros(w, w.zeros, ((tile * w.groups + group) * 8 + g) * 2, zeros);
#pragma unroll
    for (int half = 0; half < 2; ++half) {  // rows g and g + 8
      Bytes8 four;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const uint32_t pair =
            value_pair<codes>(now.pair(4 * step + 2 * i + half), zeros[half], table);
        const auto value = [&](uint32_t bits) {
          const auto h = static_cast<uint16_t>(bits);
          const float v = codes == Codes::kBF16 ? bf16_float(h) : half_float(h);
          return static_cast<uint32_t>(float_half(v * kValueFactor<codes> * scales[half]));
        };
        four.w[i] = value(pair) | value(pair >> 16) << 16;
      }
      store8(to + 8 * half * w.stages * kStageColumns + step * kStepColumns, four);
    }
  }
}

// grid  x: a thread an element of a row, y: tokens
PITH_KERNEL finish_kernel(Finish a) {
  const int64_t r = block_x() * kThreads + thread_index(), t = block_y();
  if (r >= a.n) return;
  float v = a.sums[t * a.lds + r] * a.scales[t];
  if (a.bias) v += a.bias[r];
  float* const y = a.y + t * a.ldy + r;
  *y = a.add ? *y + v : v;
}

template <Codes codes>
Status run(const Dequantize& a, Stream stream) {
  const int64_t warps = a.count * a.w.stages;
  return launch(dequantize_kernel<codes>, {(warps + 7) / 8, 1, 1, kThreads, 1024}, stream, a);
}

}  // namespace

Status dequantize(const Dequantize& a, Stream stream) {
  switch (a.w.codes) {
    case Codes::kInt2:
      return run<Codes::kInt2>(a, stream);
    case Codes::kInt3:
      return run<Codes::kInt3>(a, stream);
    case Codes::kInt4:
      return run<Codes::kInt4>(a, stream);
    case Codes::kInt5:
      return run<Codes::kInt5>(a, stream);
    case Codes::kInt6:
      return run<Codes::kInt6>(a, stream);
    case Codes::kInt8:
      return run<Codes::kInt8>(a, stream);
    case Codes::kNf4:
      return run<Codes::kNf4>(a, stream);
    case Codes::kE4M3:
      return run<Codes::kE4M3>(a, stream);
    case Codes::kE5M2:
      return run<Codes::kE5M2>(a, stream);
    case Codes::kF16:
      return run<Codes::kF16>(a, stream);
    default:
      return run<Codes::kBF16>(a, stream);
  }
}

Status finish(const Finish& a, Stream stream) {
  if (a.m > 65535) return "finish: more than 65535 tokens at once";
  return launch(finish_kernel, {(a.n + kThreads - 1) / kThreads, a.m, 1, kThreads}, stream, a);
}

}  // namespace pith::cuda
