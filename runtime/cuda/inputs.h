// Inputs of products, written a token at a time by a whole block.
#pragma once

#include "runtime/cuda/device/device.h"
#include "runtime/cuda/ops.h"
#include "runtime/cuda/values.h"

namespace pith::cuda {
namespace {

// The power of two that takes the largest magnitude of a token into [2^14, 2^15); 1 for 0, NaN
// where it is not finite.
PITH_DEVICE float half_scale(float absmax) {
  const uint32_t exponent = float_bits(absmax) >> 23 & 0xff;
  if (exponent == 0xff) return absmax - absmax;
  if (exponent <= 14) return exponent == 0 && absmax == 0 ? 1.0f : bits_float(1u << 23);
  return bits_float((exponent - 14) << 23);
}

// The code of x by a scale that is not NaN, as a number.
PITH_DEVICE float code_of(float x, float scale, bool floats) {
  if (!(scale > 0)) return 0;
  return floats ? e4m3_float(float_e4m3(x / scale)) : round_int8(x / scale);
}
PITH_DEVICE float fixed_or(float fixed, float own) { return fixed > 0 && own == own ? fixed : own; }

// to[t] = f16 of value(i) / scale, or of its code, with 0 behind n; every thread knows the scale.
template <class Value>
PITH_DEVICE void write_inputs(const HalfInputs& to, int64_t t, int64_t n, float absmax,
                              Value value) {
  const bool floats = to.round == RoundTo::kE4M3, rounds = to.round != RoundTo::kHalf;
  const float scale = rounds ? fixed_or(to.fixed, code_scale(absmax, floats ? 448.0f : 127.0f))
                             : half_scale(absmax);
  const float inverse = 1.0f / scale;
  uint16_t* const row = to.values + t * to.stride;
  for (int64_t i = thread_index(); i < to.stride; i += block_threads()) {
    float v = 0;
    if (i < n) v = rounds ? code_of(value(i), scale, floats) : value(i) * inverse;
    row[i] = float_half(v);
  }
  if (thread_index() == 0) to.scales[t] = scale;
}

template <class Value>
PITH_DEVICE void write_inputs(const Int8Inputs& to, int64_t t, int64_t n, float absmax,
                              Value value) {
  const float scale = fixed_or(to.fixed, code_scale(absmax, 127.0f));
  int8_t* const row = to.values + t * to.stride;
  for (int64_t i = thread_index(); i < to.stride; i += block_threads())
    row[i] = static_cast<int8_t>(i < n ? code_of(value(i), scale, false) : 0.0f);
  if (thread_index() == 0) to.scales[t] = scale;
}

}  // namespace
}  // namespace pith::cuda
