// The text of all kernel sets. A file of one instruction level defines, in its own anonymous
// namespace, the 16-lane vector V16 and its primitives (see scalar.cc), then includes this
// file there, then fills a table with PITH_KERNEL_TABLE. No include guard: one inclusion a file;
// everything here has internal linkage, so that code compiled for one level is never picked by the
// linker for another.

inline V16 load16(const float* p) { return load(p); }

// f(0), f(1), ... f(n - 1), each a constant: arrays of vectors that only such indices touch live in
// registers. (Loops are unrolled too late for that.)
template <int i>
struct Index {
  constexpr operator int() const { return i; }
};
template <int n, class F>
PITH_INLINE void unrolled(F f) {
  if constexpr (n > 0) {
    unrolled<n - 1>(f);
    f(Index<n - 1>());
  }
}

// Each stands on those before it.
// clang-format off
#include "runtime/cpu/kernels/rows_body.h"
#include "runtime/cpu/kernels/gemm_body.h"
#include "runtime/cpu/kernels/attention_body.h"
#include "runtime/cpu/kernels/tiles_body.h"
#include "runtime/cpu/kernels/int8_body.h"
#include "runtime/cpu/kernels/peak_body.h"
#include "runtime/cpu/kernels/vector_math_body.h"
// clang-format on

#define PITH_BY_FLOATS(f) f<F32>, f<F16>, f<BF16>, f<F8E4M3>, f<F8E5M2>
#define PITH_BY_CODES(f) \
  { PITH_BY_FLOATS(f), f<I8>, f<Packed<4>> }
#define PITH_KERNEL_TABLE(name)                                                                  \
  {                                                                                              \
    name, gemm, transpose_panel, PITH_BY_CODES(decode_row), {PITH_BY_FLOATS(dot)},               \
        PITH_BY_CODES(attn_qk), PITH_BY_CODES(attn_pv), PITH_BY_CODES(decode_columns),           \
        dequantize_tile, quant_gemv, unpack_tile, unpack_zeros, int8_gemv, center_codes,         \
        int8_gemm, int8_peak, f32_peak, f16_to_f32, f32_to_f16, e8m0_to_f32, rms_norm, silu_mul, \
        gelu_tanh_mul, soft_cap, softmax_step, scale, log_sum_exp                                \
  }
