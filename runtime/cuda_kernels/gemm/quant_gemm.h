// Quantized GEMV and GEMM, and GEMMs of dequantized weights by cuBLAS with their epilogues: the
// arguments of their kernels. Pointers are to device memory.
#pragma once

#include <stdint.h>

#include "runtime/cuda_kernels/gemm/activations.h"
#include "runtime/cuda_kernels/gemm/weight_tiles.h"

namespace pith::cuda {

// The properties of a GPU that gemm_plan.h depends on.
struct Chip {
  int32_t multiprocessors;
  int64_t shared_bytes;  // that a block can have
};
struct GemmPlan {
  int32_t tokens;  // of a block: 8, 16, 32 or, for some codes, 64
  int32_t warps;   // of a block: 1, 2, 4 or 8
  int32_t stages;  // of the pipeline: 2, 3 or 4
  int32_t splits;  // split-K, blocks that share rows and tokens: 1, 2, 4 or 8
};
// Partial sums of split-K. `arrived` is 0 before and after.
struct GemmWorkspace {
  void* sums;
  int32_t* arrived;
};

// Quantized GEMV or GEMM, by the plan: y[t, r] (+)= sum of x[t, i] w[r, i] + bias[r] for up to
// three weights of the same codes and k, because those of one input (q k v, gate up) are too small
// one by one to fill a chip. Weights may be read before earlier work of the stream is done: wait()
// after they were written.
struct TileTarget {
  TileWeight w;
  float* y;
  int64_t ldy;
  const float* bias;  // or null
};
inline constexpr int kMaxTargets = 3;
struct QuantGemm {
  TileTarget to[kMaxTargets];
  int32_t count;
  HalfInputs x;
  bool add;
  GemmPlan plan;
  GemmWorkspace workspace;
};

// Rows [16 first, 16 (first + count)) of w as f16 [16 count, 128 stages], scales applied in f32;
// some finite number from column k on.
struct Dequantize {
  TileWeight w;
  int64_t first, count;  // tiles
  uint16_t* to;
};
// y[m, n] = x w^T of f16 in f32, without the scales of x, by cuBLAS. w [n, x.stride].
struct CublasGemmF16 {
  const uint16_t* w;
  int64_t n;
  HalfInputs x;
  float* y;
};
// y[t, r] (+)= x.scales[t] * sums[t, r] + bias[r] for r < n
struct GemmEpilogue {
  const float* sums;  // [m, lds]
  int64_t lds, n;
  const float* scales;  // [m]
  int64_t m;
  float* y;
  int64_t ldy;
  const float* bias;  // or null
  bool add;
};

// Codes of 8 bits by rows, for many tokens by cuBLAS: int8 (what integers of 8 bits mean) or e4m3.
// Rows of tiles [first, first + count), of 128 stages bytes each.
struct UnpackBytes {
  TileWeight w;
  int64_t first, count;
  void* to;
};
// e4m3 of f16 numbers that are exact in it.
struct HalfToE4M3 {
  const uint16_t* x;
  int64_t n;  // a multiple of 8
  uint8_t* to;
};
// sums[m, n] = x w^T, int32 of int8 or f32 of e4m3; w [n, k], x [m, k], n a multiple of 16 and k of
// 128.
struct CublasGemm8 {
  const void* w;
  const void* x;
  int64_t m, n, k;
  bool floats;
  void* sums;
};
// y[t, r] (+)= sums[t, r] * (scale of row first + r of w * scale of t), one fused multiply-add, +
// bias[r], for r < n.
struct Gemm8Epilogue {
  const void* sums;
  bool floats;
  int64_t lds, n, m;
  TileWeight w;
  int64_t first;
  const float* scales;
  float* y;
  int64_t ldy;
  const float* bias;
  bool add;
};
// Whether w can go by CublasGemm8.
inline bool has_bytes(const TileWeight& w) {
  return w.group_shift == kWholeRow && w.scale_type != Scales::kTwoLevels &&
         (w.format == NumberFormat::kE4M3 ||
          (w.format == NumberFormat::kInt8 && w.zeros == nullptr && w.zero == 128));
}

// Whether products of such weights and of inputs rounded to int8 are sums of integers that fit
// int32: one scale a row, or two levels of scales, of which those of groups are factors of the sum.
inline bool takes_int8(const TileWeight& w) {
  const bool eight =
      w.format == NumberFormat::kInt8 && w.zeros == nullptr && w.group_shift == kWholeRow;
  const bool four = w.format == NumberFormat::kInt4 && w.group_shift != 0;
  const bool in_rows =
      w.group_shift == kWholeRow && (w.scale_type == Scales::kF16 || w.scale_type == Scales::kBF16);
  const int64_t most = eight ? 128 : 15, factor = w.scale_type == Scales::kTwoLevels ? 127 : 1;
  return (eight || four) && (in_rows || w.scale_type == Scales::kTwoLevels) &&
         w.k <= INT32_MAX / (127 * most * factor);
}
// y[t, r] (+)= float(sum of x[t, i] w[r, i]) * (scale of r * scale of t), one fused multiply-add,
// then + bias[r]: the bits of the CPU (runtime/cpu/int_matmul.h), where that does not cut a row.
struct Int8Gemm {
  TileTarget to[kMaxTargets];
  int32_t count;
  Int8Inputs x;
  bool add;
  GemmPlan plan;
  GemmWorkspace workspace;
};

}  // namespace pith::cuda
