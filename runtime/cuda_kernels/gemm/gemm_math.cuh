// The arithmetic of quantized GEMV and GEMM: f16 activations with dequantized values, accumulated
// in f32 (F16Math), or int8 activations with integer codes, accumulated in int32 (Int8Math). A
// "unit" is the columns of one mma: one step of 16, or two.
#pragma once

#include "runtime/cuda_kernels/device/device.cuh"
#include "runtime/cuda_kernels/gemm/quant_gemm.h"
#include "runtime/cuda_kernels/gemm/tile_codes.cuh"
#include "runtime/cuda_kernels/refuse.h"

namespace pith::cuda {
namespace {

// Values are exact in f16 (nf4 is rounded to it; bf16 weights meet inputs in two bf16 parts), their
// sums those of mma in f32, a group at a time.
template <NumberFormat format_>
struct F16Math {
  static constexpr NumberFormat format = format_;
  using Args = QuantGemm;
  using Sum = float;
  using Input = uint16_t;
  using ZeroPoint = cuda::ZeroPoint<format>;
  static constexpr int kStepsOfUnit = 1;

  PITH_MEMBER static void values(const Lane<format>& c, int unit, const ZeroPoint& zero_point,
                                 const uint32_t* table, uint32_t* to) {
#pragma unroll
    for (int i = 0; i < 4; ++i) to[i] = pair_values(c, 4 * unit + i, zero_point, table);
  }
  // Loads a token's inputs of a stage.
  PITH_MEMBER static void inputs(const Input* of_token, int unit, int t, uint32_t* to) {
    const Bytes8 v = load8(of_token + column_of(format, unit, t));
    to[0] = v.w[0];
    to[1] = v.w[1];
  }
  PITH_MEMBER static void multiply(Sum* d, const uint32_t* values, const uint32_t* x) {
    cuda::multiply<format>(d, values, x);
  }
  PITH_MEMBER static void factors(Scales type, const uint32_t* raw, const float* of_rows, Sum* to) {
    scales_of(type, raw, of_rows, to);
  }
  PITH_MEMBER static Sum accumulate(Sum total, Sum factor, Sum of_group) {
    return fmaf(factor, of_group, total);
  }
  // y: of this row and a token whose inputs have this scale.
  PITH_MEMBER static void epilogue(const TileWeight&, const float* bias, int64_t row, float scale,
                                   bool add, Sum sum, float* y) {
    float v = sum * scale * kValueFactor<format>;
    if (bias) v += bias[row];
    *y = add ? *y + v : v;
  }
};

// Sums are exact in int32. int8 codes are 128 more than what they mean; of others a zero below 2^7
// is subtracted, a byte at a time. Four-bit codes lie in the order of columns 0 2 1 3, and so do
// their inputs.
template <NumberFormat format_>
struct Int8Math {
  static constexpr NumberFormat format = format_;
  using Args = Int8Gemm;
  using Sum = int32_t;
  using Input = int8_t;
  static constexpr int kStepsOfUnit = 2;

  struct ZeroPoint {
    uint32_t zero[2];
    PITH_MEMBER void set(uint32_t zeros) {
      zero[0] = select_bytes(zeros, 0, 0x0000);
      zero[1] = select_bytes(zeros, 0, 0x1111);
    }
  };

  PITH_MEMBER static void values(const Lane<format>& c, int unit, const ZeroPoint& zero_point,
                                 const uint32_t*, uint32_t* to) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int step = 2 * unit + i;
      if constexpr (format == NumberFormat::kInt8) {
        // A word has the codes of rows g and g + 8 in turns.
        const uint32_t first = c.low.w[2 * step], second = c.low.w[2 * step + 1];
        to[2 * i] = select_bytes(first, second, 0x6420) ^ 0x80808080u;
        to[2 * i + 1] = select_bytes(first, second, 0x7531) ^ 0x80808080u;
      } else {
#pragma unroll
        for (int row = 0; row < 2; ++row) {
          const uint32_t four = and_or(c.low.w[step] >> (4 * row), 0x0f0f0f0fu, 0x80808080u);
          to[2 * i + row] = (four - zero_point.zero[row]) ^ 0x80808080u;
        }
      }
    }
  }
  PITH_MEMBER static void inputs(const Input* of_token, int unit, int t, uint32_t* to) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      to[i] = load4(of_token + 32 * unit + 16 * i + 4 * t);
      if constexpr (format == NumberFormat::kInt4) to[i] = select_bytes(to[i], 0, 0x3120);
    }
  }
  PITH_MEMBER static void multiply(Sum* d, const uint32_t* values, const uint32_t* x) {
    mma_s8(d, values, x);
  }
  PITH_MEMBER static void factors(Scales type, const uint32_t* raw, const float*, Sum* to) {
    const bool two_levels = type == Scales::kTwoLevels;
    to[0] = two_levels ? static_cast<int8_t>(raw[0]) : 1;
    to[1] = two_levels ? static_cast<int8_t>(raw[0] >> 8) : 1;
  }
  PITH_MEMBER static Sum accumulate(Sum total, Sum factor, Sum of_group) {
    return total + factor * of_group;
  }
  PITH_MEMBER static void epilogue(const TileWeight& w, const float* bias, int64_t row, float scale,
                                   bool add, Sum sum, float* y) {
    const int r = static_cast<int>(row % 8);
    const bool high = row % 16 >= 8;
    float scales[2];
    if (w.scale_type == Scales::kTwoLevels) {
      const float* const of_rows = w.row_scales + (row / 16 * 8 + r) * 2;
      scales[0] = of_rows[0];
      scales[1] = of_rows[1];
    } else {
      load_scales(w, row / 16, 0, r, scales);
    }
    const float v =
        fmaf(static_cast<float>(sum), (high ? scales[1] : scales[0]) * scale, add ? *y : 0.0f);
    *y = bias ? v + bias[row] : v;
  }
};

template <int n>
struct Number {
  static constexpr int value = n;
};
// run(Number<steps of a group of w>()), of those that weights of such codes may have.
template <class Math, class Run>
Status by_group_steps(const TileWeight& w, Run run) {
  constexpr NumberFormat format = Math::format;
  constexpr bool halves = Math::kStepsOfUnit == 1, trellis = is_trellis(format),
                 short_groups = format == NumberFormat::kNf4 || trellis ||
                                (is_integer(format) && (halves || format != NumberFormat::kInt8)),
                 stages = short_groups || format != NumberFormat::kE2M1;
  switch (group_steps(w.group_shift)) {
    case 8:
      if constexpr (stages) return run(Number<8>());
      break;
    case 4:
      if constexpr (short_groups) return run(Number<4>());
      break;
    case 2:
      if constexpr (short_groups || format == NumberFormat::kE2M1) return run(Number<2>());
      break;
    default:
      if constexpr (short_groups && halves && !trellis) return run(Number<1>());
  }
  return refuse("quant_gemm: groups of %ld for format %ld", int64_t{1} << w.group_shift, format);
}

}  // namespace
}  // namespace pith::cuda
