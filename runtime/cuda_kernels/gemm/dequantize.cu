// Weights dequantized to f16, e4m3 or int8 for cuBLAS, and the epilogues after it.
#include "runtime/cuda_kernels/device/device.cuh"
#include "runtime/cuda_kernels/gemm/dispatch_format.cuh"
#include "runtime/cuda_kernels/gemm/tile_codes.cuh"
#include "runtime/cuda_kernels/launchers.h"
#include "runtime/cuda_kernels/refuse.h"

namespace pith::cuda {
namespace {

constexpr int kThreads = 256;

// to[r, i] = f16(s[r, group] * value[r, i]) for rows of tiles [first, first + count)
//
// to      [16 count, 128 stages] f16, row-major
// grid    x: a warp a tile and stage, 8 warps
// bound   memory: bytes of the codes read, 2 bytes a weight written
template <NumberFormat format>
PITH_KERNEL dequantize_kernel(Dequantize a) {
  const TileWeight& w = a.w;
  const uint32_t* const table = nf4_table<format>();
  const int64_t index = block_x() * (kThreads / 32) + warp();
  if (index >= a.count * w.stages) return;
  const int64_t tile = a.first + index / w.stages, stage = index % w.stages;
  const int g = lane() / 4, t = lane() % 4;
  Lane<format> now;
  now.load(CodesOfLane<format>(w, tile, lane()), static_cast<int32_t>(stage));
  now.link();
  uint16_t* const to =
      a.to + ((tile - a.first) * kTileRows + g) * w.stages * kStageColumns + stage * kStageColumns;
  const int steps = group_steps(w.group_shift);
  const bool whole_row = w.group_shift == kWholeRow;
  float scales[2];
  ZeroPoint<format> zero_point;
#pragma unroll
  for (int step = 0; step < 8; ++step) {
    if (step % steps == 0) {
      const int64_t group = whole_row ? 0 : (stage * 8 + step) / steps;
      load_scales(w, tile, group, g, scales);
      scales[0] *= kValueFactor<format>;
      scales[1] *= kValueFactor<format>;
      zero_point.set(w.zeros ? load2(w.zeros + ((tile * w.groups + group) * 8 + g) * 2)
                             : static_cast<uint32_t>(w.zero) * 0x101);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {  // rows g and g + 8
      Bytes8 four;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const uint32_t pair = pair_values(now, 4 * step + 2 * i + half, zero_point, table);
        const auto value = [&](uint32_t bits) {
          const auto h = static_cast<uint16_t>(bits);
          const float v = format == NumberFormat::kBF16 ? bf16_float(h) : half_float(h);
          return static_cast<uint32_t>(float_half(v * scales[half]));
        };
        four.w[i] = value(pair) | value(pair >> 16) << 16;
      }
      store8(to + 8 * half * w.stages * kStageColumns + column_of(format, step, t), four);
    }
  }
}

// to[r, i] = the code of [r, i], as an int8 of what it means or an e4m3
//
// to      [16 count, 128 stages] bytes, row-major
// grid    x: a warp a tile and stage, 8 warps
// bound   memory: a byte a weight read and written
PITH_KERNEL unpack_bytes_kernel(UnpackBytes a) {
  const TileWeight& w = a.w;
  const int64_t index = block_x() * (kThreads / 32) + warp();
  if (index >= a.count * w.stages) return;
  const int64_t tile = index / w.stages, stage = index % w.stages;
  const int64_t row_bytes = w.stages * kStageColumns;
  const int g = lane() / 4, t = lane() % 4;
  const uint32_t flip =
      w.format == NumberFormat::kInt8 ? 0x80808080u : 0;  // 128 more than it means
  Lane<NumberFormat::kInt8> now;
  now.load(CodesOfLane<NumberFormat::kInt8>(w, a.first + tile, lane()),
           static_cast<int32_t>(stage));
  auto* const to = static_cast<uint8_t*>(a.to) + (tile * kTileRows + g) * row_bytes +
                   stage * kStageColumns + 4 * t;
#pragma unroll
  for (int step = 0; step < 8; ++step) {
    const uint32_t first = now.low.w[2 * step], second = now.low.w[2 * step + 1];
    store4(to + step * kStepColumns, select_bytes(first, second, 0x6420) ^ flip);
    store4(to + 8 * row_bytes + step * kStepColumns, select_bytes(first, second, 0x7531) ^ flip);
  }
}

// grid  x: a thread 8 numbers
PITH_KERNEL half_to_e4m3_kernel(HalfToE4M3 a) {
  const int64_t at = (block_x() * kThreads + thread_index()) * 8;
  if (at >= a.n) return;
  const Bytes16 from = load16(a.x + at);
  Bytes8 to;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    to.w[i] = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const auto h = static_cast<uint16_t>(from.w[2 * i + j / 2] >> (16 * (j % 2)));
      to.w[i] |= static_cast<uint32_t>(float_e4m3(half_float(h))) << (8 * j);
    }
  }
  store8(a.to + at, to);
}

// grid  x: a thread an element of a row, y: tokens
PITH_KERNEL gemm_8_epilogue_kernel(Gemm8Epilogue a) {
  const int64_t r = block_x() * kThreads + thread_index(), t = block_y();
  if (r >= a.n) return;
  const int64_t row = a.first + r, at = t * a.lds + r;
  float scales[2];
  load_scales(a.w, row / 16, 0, static_cast<int>(row % 8), scales);
  const float sum = a.floats ? static_cast<const float*>(a.sums)[at]
                             : static_cast<float>(static_cast<const int32_t*>(a.sums)[at]);
  float* const y = a.y + t * a.ldy + r;
  const float v =
      fmaf(sum, (row % 16 >= 8 ? scales[1] : scales[0]) * a.scales[t], a.add ? *y : 0.0f);
  *y = a.bias ? v + a.bias[r] : v;
}

// grid  x: a thread an element of a row, y: tokens
PITH_KERNEL epilogue_kernel(GemmEpilogue a) {
  const int64_t r = block_x() * kThreads + thread_index(), t = block_y();
  if (r >= a.n) return;
  float v = a.sums[t * a.lds + r] * a.scales[t];
  if (a.bias) v += a.bias[r];
  float* const y = a.y + t * a.ldy + r;
  *y = a.add ? *y + v : v;
}

template <NumberFormat format>
Status run(const Dequantize& a, Stream stream) {
  const int64_t warps = a.count * a.w.stages;
  return launch(dequantize_kernel<format>, {(warps + 7) / 8, 1, 1, kThreads, 1024}, stream, a);
}

}  // namespace

Status dequantize(const Dequantize& a, Stream stream) {
  return by_format(a.w.format, [&](auto of) { return run<decltype(of)::format>(a, stream); });
}

Status unpack_bytes(const UnpackBytes& a, Stream stream) {
  if (!has_bytes(a.w)) return refuse("unpack_bytes: codes of format %ld are not bytes", a.w.format);
  const int64_t warps = a.count * a.w.stages;
  return launch(unpack_bytes_kernel, {(warps + 7) / 8, 1, 1, kThreads}, stream, a);
}
Status half_to_e4m3(const HalfToE4M3& a, Stream stream) {
  if (a.n % 8 != 0) return refuse("half_to_e4m3: %ld elements, not a multiple of 8", a.n);
  return launch(half_to_e4m3_kernel, {(a.n / 8 + kThreads - 1) / kThreads, 1, 1, kThreads}, stream,
                a);
}
Status gemm_8_epilogue(const Gemm8Epilogue& a, Stream stream) {
  if (a.m > 65535) return refuse("gemm_8_epilogue: %ld tokens, it takes 65535", a.m);
  return launch(gemm_8_epilogue_kernel, {(a.n + kThreads - 1) / kThreads, a.m, 1, kThreads}, stream,
                a);
}
Status gemm_epilogue(const GemmEpilogue& a, Stream stream) {
  if (a.m > 65535) return refuse("gemm_epilogue: %ld tokens, it takes 65535", a.m);
  return launch(epilogue_kernel, {(a.n + kThreads - 1) / kThreads, a.m, 1, kThreads}, stream, a);
}

}  // namespace pith::cuda
