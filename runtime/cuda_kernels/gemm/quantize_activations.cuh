// Activations converted for a GEMM, to scaled f16 or int8: a block a token.
#pragma once

#include "runtime/cuda_kernels/device/device.cuh"
#include "runtime/cuda_kernels/gemm/activations.h"
#include "runtime/cuda_kernels/gemm/convert.cuh"

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

// Numbers i to i + 3 of a row of n, 0 behind it; i a multiple of 4.
struct Four {
  float v[4];
};
PITH_DEVICE Four load_four(const float* row, int64_t i, int64_t n, bool aligned = true) {
  Four f = {};
  if (n % 4 == 0 && aligned) {
    if (i >= n) return f;
    const Bytes16 all = load16(row + i);
#pragma unroll
    for (int j = 0; j < 4; ++j) f.v[j] = bits_float(all.w[j]);
  } else {
#pragma unroll
    for (int j = 0; j < 4; ++j) f.v[j] = i + j < n ? row[i + j] : 0.0f;
  }
  return f;
}
PITH_DEVICE void store_four(float* row, int64_t i, int64_t n, const Four& f) {
  if (n % 4 == 0) {
    if (i >= n) return;
    Bytes16 all;
#pragma unroll
    for (int j = 0; j < 4; ++j) all.w[j] = float_bits(f.v[j]);
    store16(row + i, all);
  } else {
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (i + j < n) row[i + j] = f.v[j];
  }
}
PITH_DEVICE float absmax_of(const Four& f) {
  return larger(larger(fabsf(f.v[0]), fabsf(f.v[1])), larger(fabsf(f.v[2]), fabsf(f.v[3])));
}

// A row as the threads of a block hold it, four numbers at a time: in registers where `kept` fours
// a thread are enough, made again by make(i, j) where `kept` is 0.
template <int kept, class Make>
struct RowOfBlock {
  Make make;
  int64_t n;
  Four fours[kept > 0 ? kept : 1];

  PITH_MEMBER RowOfBlock(int64_t count, Make of) : make(of), n(count) {
#pragma unroll
    for (int j = 0; j < kept; ++j) fours[j] = make(first() + j * step(), j);
  }
  PITH_MEMBER static int64_t first() { return 4 * thread_index(); }
  PITH_MEMBER static int64_t step() { return 4 * block_threads(); }

  // Numbers i to i + 3, of this thread the j-th.
  PITH_MEMBER Four at(int64_t i, int j) const {
    if constexpr (kept > 0) return fours[j];
    return make(i, j);
  }
  // f(i, j), for all of this thread
  template <class F>
  PITH_MEMBER void each(F f) const {
    if constexpr (kept > 0) {
#pragma unroll
      for (int j = 0; j < kept; ++j) {
        const int64_t i = first() + j * step();
        if (i < n) f(i, j);
      }
    } else {
      for (int64_t i = first(); i < n; i += step()) f(i, 0);
    }
  }
  PITH_MEMBER float absmax() const {
    float top = 0;
    each([&](int64_t i, int j) { top = larger(absmax_of(at(i, j)), top); });
    return top;
  }
};
// `n` numbers, those of the row and what stands behind them.
template <int kept, class Make>
PITH_DEVICE RowOfBlock<kept, Make> row_of_block(int64_t n, Make make) {
  return RowOfBlock<kept, Make>(n, make);
}

// to[t] = f16 of row / scale, or of its code; every thread knows the scale. The row has to.stride
// numbers.
template <class Row>
PITH_DEVICE void write_inputs(const HalfInputs& to, int64_t t, float absmax, const Row& row) {
  const bool floats = to.round == NumberFormat::kE4M3, rounds = to.round != NumberFormat::kF16;
  const float scale = rounds ? fixed_or(to.fixed, code_scale(absmax, floats ? 448.0f : 127.0f))
                             : half_scale(absmax);
  const float inverse = 1.0f / scale;
  uint16_t* const values = to.values + t * to.stride;
  row.each([&](int64_t i, int at) {
    const Four f = row.at(i, at);
    float v[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) v[j] = rounds ? code_of(f.v[j], scale, floats) : f.v[j] * inverse;
    store8(values + i, {half_pair(v[0], v[1]), half_pair(v[2], v[3])});
  });
  if (thread_index() == 0) to.scales[t] = scale;
}

template <class Row>
PITH_DEVICE void write_inputs(const Int8Inputs& to, int64_t t, float absmax, const Row& row) {
  const float scale = fixed_or(to.fixed, code_scale(absmax, 127.0f));
  int8_t* const values = to.values + t * to.stride;
  row.each([&](int64_t i, int at) {
    const Four f = row.at(i, at);
    uint32_t word = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const auto code = static_cast<int32_t>(code_of(f.v[j], scale, false));
      word |= (static_cast<uint32_t>(code) & 0xff) << (8 * j);
    }
    store4(values + i, word);
  });
  if (thread_index() == 0) to.scales[t] = scale;
}

}  // namespace
}  // namespace pith::cuda
