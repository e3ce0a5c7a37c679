// What products of tiles compute with: f16 inputs and values of codes in f32, or int8 inputs and
// integers. A "unit" is the columns of one mma: one step of 16, or two.
#pragma once

#include "runtime/cuda/device/device.h"
#include "runtime/cuda/ops.h"
#include "runtime/cuda/tile_codes.h"

namespace pith::cuda {
namespace {

// Values are exact in f16 (nf4 is rounded to it; bf16 weights meet inputs in two bf16 parts), their
// sums those of mma in f32, a group at a time.
template <Codes codes_>
struct Halves {
  static constexpr Codes codes = codes_;
  using Product = TileProduct;
  using Sum = float;
  using Input = uint16_t;
  static constexpr int kStepsOfUnit = 1;

  PITH_MEMBER static void values(const Lane<codes>& c, int unit, const uint32_t* zeros,
                                 const uint32_t* table, uint32_t* to) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      to[i] = value_pair<codes>(c.pair(4 * unit + i), zeros[i % 2], table);
  }
  // Of a token's inputs of a stage.
  PITH_MEMBER static void inputs(const Input* of_token, int unit, int t, uint32_t* to) {
    const Bytes8 v = load8(of_token + 16 * unit + 4 * t);
    to[0] = v.w[0];
    to[1] = v.w[1];
  }
  PITH_MEMBER static void multiply(Sum* d, const uint32_t* values, const uint32_t* x) {
    cuda::multiply<codes>(d, values, x);
  }
  PITH_MEMBER static void read_factors(Scales type, const void* scales, int64_t at,
                                       const float* of_rows, Sum* to) {
    read_scales(type, scales, at, of_rows, to);
  }
  PITH_MEMBER static Sum join(Sum total, Sum factor, Sum of_group) {
    return fmaf(factor, of_group, total);
  }
  // y: of this row and a token whose inputs have this scale.
  PITH_MEMBER static void finish(const TileWeight&, const float* bias, int64_t row, float scale,
                                 bool add, Sum sum, float* y) {
    float v = sum * scale * kValueFactor<codes>;
    if (bias) v += bias[row];
    *y = add ? *y + v : v;
  }
};

// Sums are exact in int32. int8 codes are 128 more than what they mean; of others a zero below 2^7
// is subtracted, a byte at a time.
template <Codes codes_>
struct Ints {
  static constexpr Codes codes = codes_;
  using Product = Int8Product;
  using Sum = int32_t;
  using Input = int8_t;
  static constexpr int kStepsOfUnit = 2;

  PITH_MEMBER static void values(const Lane<codes>& c, int unit, const uint32_t* zeros,
                                 const uint32_t*, uint32_t* to) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if constexpr (codes == Codes::kInt8) {
        // A word has the codes of rows g and g + 8 in turns.
        const uint32_t first = c.low.w[4 * unit + 2 * i], second = c.low.w[4 * unit + 2 * i + 1];
        to[2 * i] = even_bytes(first, second) ^ 0x80808080u;
        to[2 * i + 1] = odd_bytes(first, second) ^ 0x80808080u;
      } else {
#pragma unroll
        for (int row = 0; row < 2; ++row) {
          const int pair = 4 * (2 * unit + i) + row;
          const uint32_t four = even_bytes(c.pair(pair), c.pair(pair + 2));
          to[2 * i + row] = ((four | 0x80808080u) - (zeros[row] | zeros[row] << 8)) ^ 0x80808080u;
        }
      }
    }
  }
  PITH_MEMBER static void inputs(const Input* of_token, int unit, int t, uint32_t* to) {
    to[0] = load4(of_token + 32 * unit + 4 * t);
    to[1] = load4(of_token + 32 * unit + 4 * t + 16);
  }
  PITH_MEMBER static void multiply(Sum* d, const uint32_t* values, const uint32_t* x) {
    mma_s8(d, values, x);
  }
  PITH_MEMBER static void read_factors(Scales type, const void* scales, int64_t at, const float*,
                                       Sum* to) {
    const bool two_levels = type == Scales::kTwoLevels;
    to[0] = two_levels ? static_cast<const int8_t*>(scales)[at] : 1;
    to[1] = two_levels ? static_cast<const int8_t*>(scales)[at + 1] : 1;
  }
  PITH_MEMBER static Sum join(Sum total, Sum factor, Sum of_group) {
    return total + factor * of_group;
  }
  PITH_MEMBER static void finish(const TileWeight& w, const float* bias, int64_t row, float scale,
                                 bool add, Sum sum, float* y) {
    const int r = static_cast<int>(row % 8);
    const bool high = row % 16 >= 8;
    float scales[2];
    if (w.scale_type == Scales::kTwoLevels) {
      scales[0] = row_scales_of(w, row / 16, r)[0];
      scales[1] = row_scales_of(w, row / 16, r)[1];
    } else {
      load_scales(w, row / 16, 0, r, scales);
    }
    const float v =
        fmaf(static_cast<float>(sum), (high ? scales[1] : scales[0]) * scale, add ? *y : 0.0f);
    *y = bias ? v + bias[row] : v;
  }
};

}  // namespace
}  // namespace pith::cuda
