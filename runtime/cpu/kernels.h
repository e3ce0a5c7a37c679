// The CPU's inner loops, one set per instruction level, all from the same text (kernels/body.h)
// over 16 lanes of f32. No allocation, no exceptions, plain pointers; every result depends on its
// inputs alone, never on threads or alignment.
#pragma once

#include <cstdint>

#include "formats/encodings/number_format.h"

// Sums stay in registers only where all that handles them is inlined.
#define PITH_INLINE [[gnu::always_inline]] inline
#define PITH_INLINED __attribute__((always_inline))  // behind the parameters of a lambda

namespace pith {

// One row of dense or fp8 weights or of a cache, its scales unpacked. Codes of kInt8 have a sign;
// two codes of kInt4 are a byte, the first in its low bits, and have none. Element i is scale[i /
// group] * (value(code i) - zero[i / group]).
struct CodeRow {
  const void* codes;    // 64 bytes behind are readable
  const float* scales;  // [ceil(k / group)], or null: 1
  const float* zeros;   // the same, or null: 0
  int64_t group;        // a multiple of 16, or at least k
};

// 16 rows, column by column: code r of [16 i, 16 i + 16) is that of row r in column i. Element [r,
// i] is scales[i / group, r] * (value(code) - zeros[i / group, r]).
struct CodeColumns {
  const void* codes;    // 64 bytes behind are readable
  const float* scales;  // [ceil(k / group), 16], or null: 1
  const float* zeros;   // the same, or null: 0
  int64_t group;
};

// Formats of tiles are integers of 2 to 8 bits, NF4, E2M1 and trellis codes. Codes of E2M1 are
// taken as integers, twice their value plus 12: their zero is 12, and their scale is half of the
// stored one. Trellis codes (formats/encodings/tcq.h) become integers of 8 bits whose zero is 126.
inline constexpr int kE2M1Zero = 12;

// The codes of a tile of 16 rows of integers or nf4 (formats/encodings/int_group.h), scales and
// zeros unpacked. Element [r, i] is scales[i / group, r] * (code - zeros[i / group, r]).
struct GroupTile {
  NumberFormat format;
  const uint8_t* codes;
  const float* scales;  // [ceil(k / group), 16]
  const float* zeros;   // the same; null: 0
  int64_t group;        // a multiple of 16, or at least k
};

// How rows are blocked for products of integers: a step of columns has one zero and one int8 factor
// of the weight, a piece of steps one f32 scale of it, a block of pieces one of the inputs.
struct IntBlocking {
  int64_t step;  // columns: a multiple of 16, or at least k
  int64_t steps, pieces;
  int64_t steps_of_piece, pieces_of_block;
  int64_t steps_of_group, pieces_of_group;  // of what lies beside the codes; at least 1
};
// int8 inputs of tokens t, at x + t * stride, with 0 from column k up to the next multiple of 32.
struct IntInputs {
  const int8_t* x;
  int64_t stride;
  const float* scales;  // [blocks, all], of which these are m columns
  const int32_t* sums;  // of x: [steps, all]
  int64_t m, all;
};
// 16 rows of codes as they lie. Where no scales or zeros are unpacked, those beside the codes are
// taken, which lie by groups.
struct IntTile {
  NumberFormat format;  // not kNf4
  const uint8_t* codes;
  const float* scales;          // [pieces, 16], or null:
  const uint16_t* half_scales;  // the same in f16, or null:
  const uint8_t* powers;        // bytes e for 2^(e - 128), which lie by groups too
  const int32_t* zeros;         // [steps, 16], or null:
  const uint8_t* packed_zeros;  // units of 16 in 2*bits bytes
  const int32_t* factors;       // [steps, 16], or null: 1
};
// The same inputs plus 128, for panels.
struct PanelInputs {
  const uint8_t* x;  // 0 from column k on
  int64_t stride;
  const float* scales;  // [blocks, all]
  const int32_t* sums;  // of the inputs without the 128: [pieces, all]
  int64_t m, all;
};
// 32 rows of integers without their zeros, (code - zero) * factor, which fit 8 bits with a sign.
struct IntPanel {
  const uint8_t* codes;    // [ceil(k/4), 32, 4], 0 from column k on
  const float* scales;     // [pieces, 32]
  const int32_t* offsets;  // -128 times the sum of the codes: [pieces, 32]
  const int32_t* rest;     // what is left of the zeros: [pieces, 32], or null
};

struct CpuKernels {
  const char* name;  // "avx512"

  // c[m, n] (+)= a[m, k] b[k, n], row-major with the given strides
  void (*gemm)(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b,
               int64_t ldb, float* c, int64_t ldc, bool accumulate);
  // to[k, 32] = transpose of up to 32 rows [rows, k] at stride ld; missing rows are 0
  void (*transpose_panel)(const float* rows, int64_t count, int64_t ld, int64_t k, float* to);
  // out[k] = the elements, bit for bit as the reference decoder gives them
  void (*decode[kRowFormats])(const CodeRow& row, int64_t k, float* out);
  // The products of `rows` (1 to 4) rows of floats, without zeros, with one x [k]; x has 0 up to
  // the next multiple of 16
  void (*dot[kRowFloats])(const CodeRow* rows, int count, int64_t k, const float* x, float* out);
  // Attention of few queries (1 to 4 rows) straight from the codes of a cache; bit for bit what
  // decoding and gemm give. Tiles and rows follow each other at `step` bytes of codes, their scales
  // and zeros without gaps.
  //
  // to[r, key] = the products of rows [rows, d] with 16 keys of each tile
  void (*attn_qk[kRowFormats])(int64_t rows, const float* x, int64_t d, const CodeColumns& keys,
                               int64_t step, int64_t tiles, float* to, int64_t ld);
  // to[r, d] += the sum over n keys of weights[r, key] * value[key]; d is a multiple of 16
  void (*attn_pv[kRowFormats])(int64_t rows, const float* weights, int64_t ld,
                               const CodeRow& values, int64_t step, int64_t n, int64_t d,
                               float* to);
  // to[i * ld, 16] = column i, for i < k
  void (*decode_columns[kRowFormats])(const CodeColumns& rows, int64_t k, float* to, int64_t ld);

  // Dequantizes a tile of integers in groups. to[k, 32]: by columns, 16 rows at to; as the
  // reference decoder gives them.
  void (*dequantize_tile)(const GroupTile& tile, int64_t k, float* to);
  // y[t, r] (+)= the products of the 16 rows with m tokens at x + t * ldx, for the first `rows` of
  // them
  void (*quant_gemv)(const GroupTile& tile, int64_t k, const float* x, int64_t ldx, int64_t m,
                     float* y, int64_t ldy, int64_t rows, bool accumulate);

  // Products of integers, in int32 that wraps: exact where the result fits (int_matmul.h).
  //
  // The codes of a tile as bytes, [8 * units, 16, 4], at lines of 32 rows
  void (*unpack)(NumberFormat format, const uint8_t* codes, int64_t units, uint8_t* to);
  // Units of 16 integers packed in 2*bits bytes: the zeros of a tile
  void (*unpack_zeros)(NumberFormat format, const uint8_t* from, int64_t units, int32_t* to);
  // y[t, r] (+)= the sum over pieces of float(sum of (code - zero) * factor * x) * (scale of the
  // row * scale of the token), one fused multiply-add each, for the first `rows` rows
  void (*int8_gemv)(const IntTile& w, const IntBlocking& blocking, int64_t k, const IntInputs& x,
                    float* y, int64_t ldy, int64_t rows, bool accumulate);
  // Unpacked codes of 16 rows in a panel, in place, from codes without a sign to IntPanel's, and
  // their sums [16] added to `sums`; false where one does not fit 8 bits. No factors: 1.
  bool (*center_codes)(int64_t columns, const int32_t* zeros, const int32_t* factors,
                       uint8_t* codes, int32_t* sums);
  // c[m, 32] (+)= what int8_gemv gives, of pieces [begin, end), for tokens [token, token + m)
  void (*int8_gemm)(int bits, const IntBlocking& blocking, int64_t begin, int64_t end, int64_t k,
                    const PanelInputs& x, int64_t token, int64_t m, const IntPanel& w, float* c,
                    bool accumulate);

  // Nothing but multiply-adds in registers, n rounds of them, for the ceilings of benchmarks; the
  // number of operations, two each.
  double (*int8_peak)(int64_t n);
  double (*f32_peak)(int64_t n);

  void (*f16_to_f32)(const uint16_t* from, int64_t n, float* to);
  void (*f32_to_f16)(const float* from, int64_t n, uint16_t* to);
  void (*e8m0_to_f32)(const uint8_t* from, int64_t n,
                      float* to);  // 2^(e - 128); n a multiple of 16
  void (*rms_norm)(const float* x, const float* weight, int64_t n, float eps, float* y);
  void (*silu_mul)(float* gate, const float* up, int64_t n);  // gate = silu(gate) * up
  // gate = gelu(gate) * up, in the form with tanh
  void (*gelu_tanh_mul)(float* gate, const float* up, int64_t n);
  void (*soft_cap)(float* x, int64_t n, float cap);  // x = cap tanh(x / cap)
  // One block of an online softmax: *max rises to the maximum of x, x = exp(x - *max), *sum =
  // *sum * factor + their sum; returns the factor, exp(old max - new max), which rescales the
  // output so far, or 0 where *sum was 0.
  float (*softmax_step)(float* x, int64_t n, float* max, float* sum);
  void (*scale)(float* x, int64_t n, float factor);
  // log(sum(exp(x)))
  double (*log_sum_exp)(const float* x, int64_t n);
};

// The best level of this processor, or the one that PITH_CPU names ("scalar", "avx2", "avxvnni",
// "avx512", "amx"): read once, an unknown or unsupported name is Error(kUsage).
const CpuKernels& cpu_kernels();
// All levels that this processor can run, the best first.
int cpu_kernel_levels(const CpuKernels* const** levels);

extern const CpuKernels kScalarKernels;
extern const CpuKernels kAvx2Kernels;
extern const CpuKernels kAvxVnniKernels;
extern const CpuKernels kAvx512Kernels;
extern const CpuKernels kAmxKernels;

}  // namespace pith
