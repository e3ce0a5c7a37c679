// Dequantization of codes to f16, two at a time in a register (bf16 weights stay bf16).
#pragma once

#include "runtime/cuda_kernels/device/device.cuh"
#include "runtime/cuda_kernels/gemm/weight_tiles.h"

namespace pith::cuda {

// The factor of the f16 numbers of pair_values (tile_codes.cuh).
template <NumberFormat format>
inline constexpr float kValueFactor = format == NumberFormat::kE4M3   ? 256.0f
                                      : format == NumberFormat::kE2M1 ? 16384.0f
                                                                      : 1.0f;

PITH_CONSTANT uint16_t kNf4Halves[16] = {0xbc00, 0xb992, 0xb833, 0xb652, 0xb48d, 0xb1ea,
                                         0xadd4, 0x0000, 0x2d18, 0x3126, 0x33e0, 0x3568,
                                         0x370d, 0x3880, 0x39c9, 0x3c00};
PITH_CONSTANT float kNf4Floats[16] = {
#include "formats/encodings/nf4_values.inc"
};

// The table of pairs of nf4 in shared memory, made by the whole block, 1 KiB; null for other codes.
template <NumberFormat format>
PITH_DEVICE const uint32_t* nf4_table() {
  if constexpr (format == NumberFormat::kNf4) {
    auto* const table = reinterpret_cast<uint32_t*>(shared_memory());
    for (int i = thread_index(); i < 256; i += block_threads())
      table[i] = static_cast<uint32_t>(kNf4Halves[i / 16]) << 16 | kNf4Halves[i % 16];
    sync_block();
    return table;
  } else {
    return nullptr;
  }
}

PITH_DEVICE float e4m3_float(uint8_t b) {
  return half_float(static_cast<uint16_t>((b & 0x80) << 8 | (b & 0x7f) << 7)) * 256.0f;
}
// To nearest, ties to even, within 448; x is finite.
PITH_DEVICE uint8_t float_e4m3(float x) {
  const uint32_t sign = float_bits(x) >> 24 & 0x80;
  const float v = fminf(fabsf(x), 448.0f);
  // Adding 2^20 times its own power of two leaves three bits behind the first; below 2^-6 steps are
  // as large as there.
  const uint32_t exponent = float_bits(fmaxf(v, 0.015625f)) & 0x7f800000u;
  const float round = bits_float(exponent + (20u << 23) + 0x400000u);
  const float rounded = (v + round) - round;
  const uint32_t half = float_half(rounded * 0.00390625f);  // exact
  return static_cast<uint8_t>(sign | half >> 7);
}

// To nearest, ties to even, within 127.
PITH_DEVICE float round_int8(float x) { return rintf(fmaxf(-127.0f, fminf(127.0f, x))); }

PITH_DEVICE uint16_t float_bf16(float v) {
  const uint32_t bits = float_bits(v);
  if (v != v) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// The larger of two magnitudes; NaN where one is (fmaxf forgets it).
PITH_DEVICE float larger(float a, float b) { return a > b || a != a ? a : b; }

// limit tanh(x / limit); tanh(u) = 1 - 2 / (e^(2 u) + 1)
PITH_DEVICE float capped(float x, float limit) {
  return limit - 2 * limit / (exp_of(x * (2 / limit)) + 1);
}

// The scale of inputs or of a row of a cache whose largest magnitude is `absmax`: NaN where that is
// not finite, 0 below 2^-126.
PITH_DEVICE float code_scale(float absmax, float largest_code) {
  if (absmax - absmax != 0) return absmax - absmax;
  const float scale = absmax / largest_code;
  return scale < 1.17549435e-38f ? 0.0f : scale;
}

// d += values x
template <NumberFormat format>
PITH_DEVICE void multiply(float* d, const uint32_t* values, const uint32_t* x) {
  if constexpr (format != NumberFormat::kBF16) {
    mma_f16(d, values, x);
  } else {
    // An f16 has 11 bits: one bf16 and another for the rest hold them all.
    uint32_t high[2], low[2];
    for (int i = 0; i < 2; ++i) {
      const float a = half_float(static_cast<uint16_t>(x[i])),
                  b = half_float(static_cast<uint16_t>(x[i] >> 16));
      const uint32_t a_high = float_bits(a) & 0xffff0000u, b_high = float_bits(b) & 0xffff0000u;
      high[i] = a_high >> 16 | b_high;
      low[i] = float_bits(a - bits_float(a_high)) >> 16 |
               (float_bits(b - bits_float(b_high)) & 0xffff0000u);
    }
    mma_bf16(d, values, high);
    mma_bf16(d, values, low);
  }
}

}  // namespace pith::cuda
