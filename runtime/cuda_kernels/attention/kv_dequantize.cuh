// Numbers of cached rows on their way to tensor cores: codes of 8 bits as f16, and what the scales
// of values become, which is a power of two of sums.
#pragma once

#include "runtime/cuda_kernels/attention/attention.h"
#include "runtime/cuda_kernels/device/device.cuh"
#include "runtime/cuda_kernels/gemm/convert.cuh"

namespace pith::cuda {

// Bytes 2 i and 2 i + 1 of a word as f16: int8, exact (1024 + 128 + code, less 1152); e4m3, 2^-8
// times what they mean.
PITH_DEVICE uint32_t int8_pair(uint32_t word, int i) {
  const uint32_t v = select_bytes(word ^ 0x80808080u, 0x64646464u, i == 0 ? 0x4140 : 0x4342);
  return half2_fma(v, 0x3c003c00u, 0xe480e480u);
}
PITH_DEVICE uint32_t e4m3_pair(uint32_t word, int i) {
  const uint32_t v = select_bytes(word, 0, i == 0 ? 0x1404 : 0x3424);
  return and_or(v, 0x80008000u, v >> 1 & 0x3f803f80u);
}

// The same of either type, and what they are to be multiplied by.
PITH_DEVICE uint32_t code_pair(NumberFormat type, uint32_t word, int i) {
  return type == NumberFormat::kInt8 ? int8_pair(word, i) : e4m3_pair(word, i);
}
PITH_BOTH constexpr float code_factor(NumberFormat type) {
  return type == NumberFormat::kE4M3 ? 256.0f : 1.0f;
}

// Eight codes of a cached row as f16.
PITH_DEVICE Bytes16 eight_halves(NumberFormat type, const void* rows, int64_t at) {
  const Bytes8 codes = load8(static_cast<const unsigned char*>(rows) + at);
  Bytes16 to;
#pragma unroll
  for (int i = 0; i < 4; ++i) to.w[i] = code_pair(type, codes.w[i / 2], i % 2);
  return to;
}

constexpr float kLog2E = 1.44269504088896f;
// join() of the four lanes 4 g to 4 g + 3, on each of them.
template <class Join>
PITH_DEVICE float reduce_four(float v, Join join) {
  v = join(v, shuffle_xor(v, 1));
  return join(v, shuffle_xor(v, 2));
}
PITH_DEVICE float higher(float a, float b) { return fmaxf(a, b); }

// Weights of values are f16, and scales may be small: sums are in units of a power of two near the
// largest scale so far.
struct PowerOfTwo {
  float value, inverse;
};
constexpr float kLeastUnit = 1.17549435e-38f;
PITH_DEVICE PowerOfTwo larger_power(float unit, float scale) {
  const float of_scale = bits_float(float_bits(scale) & 0x7f800000u);
  const float value = of_scale > unit ? of_scale : unit;
  return {value, bits_float((254u << 23) - float_bits(value))};
}

}  // namespace pith::cuda
