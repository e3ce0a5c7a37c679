// The CPU's inner loops, one set per instruction level, all from the same text (kernels_body.h)
// over 16 lanes of f32. No allocation, no exceptions, plain pointers; every result depends on its
// inputs alone, never on threads or alignment.
#pragma once

#include <cstdint>

namespace pith {

// How the elements of a row are stored, for the kernels: the encodings that have one.
enum class CodeKind : uint8_t {
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kF8E5M2,
  kInt2,
  kInt3,
  kInt4,
  kInt5,
  kInt6,
  kInt8,
  kNf4,
  kCount
};

// One row of a weight, its scales unpacked. Element i is scale[i / group] * (value(code i) - zero[i
// / group]).
struct CodeRow {
  const void* codes;    // as the plane has them; 64 bytes behind are readable
  const float* scales;  // [ceil(k / group)], or null: 1
  const float* zeros;   // the same, or null: 0 (integers: 2^(bits-1))
  int64_t group;        // a multiple of 16, or at least k
};

// int8 inputs of tokens t, at x + t * stride, with 0 from column k up to the next multiple of 4.
struct IntInputs {
  const int8_t* x;
  int64_t stride;
  const float* scales;  // [m]
  const int32_t* sums;  // [m], of x over the columns
};
// 32 rows of integers of up to 8 bits.
struct IntPanel {
  const uint8_t* codes;  // [ceil(k/4), 32, 4]
  const float* scales;   // [32]
  const int32_t* zeros;  // [32]
};

struct CpuKernels {
  const char* name;  // "avx512"

  // c[m, n] (+)= a[m, k] b[k, n], row-major with the given strides
  void (*gemm)(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b,
               int64_t ldb, float* c, int64_t ldc, bool add);
  // to[k, 32] = transpose of up to 32 rows [rows, k] at stride ld; missing rows are 0
  void (*panel)(const float* rows, int64_t count, int64_t ld, int64_t k, float* to);
  // out[k] = the elements, bit for bit as the reference decoder gives them
  void (*decode[static_cast<int>(CodeKind::kCount)])(const CodeRow& row, int64_t k, float* out);
  // The products of `rows` (1 to 4) rows with one x [k]; x has 0 up to the next multiple of 16
  void (*dot[static_cast<int>(CodeKind::kCount)])(const CodeRow* rows, int count, int64_t k,
                                                  const float* x, float* out);

  // Products of integers, in int32 that wraps: exact where the result fits (int_matmul.h).
  //
  // to[k] = codes of 2 to 6 bits as bytes, and the codes behind them up to a multiple of 16
  void (*unpack)(int bits, const uint8_t* codes, int64_t k, uint8_t* to);
  // sums[ceil(k/step), 4]: four rows of codes times x, in steps of columns (a multiple of 16, or at
  // least k); x has 0 up to the next multiple of 16
  void (*int_dot)(const uint8_t* const* codes, int64_t k, int64_t step, const int8_t* x,
                  int32_t* sums);
  // c[m, n] (+)= float(sum of (code - zero) * x) * scale of the row * scale of the token, n <= 32
  void (*int_gemm)(int64_t m, int64_t n, int64_t k, const IntInputs& x, const IntPanel& w, float* c,
                   int64_t ldc, bool add);

  void (*f16_to_f32)(const uint16_t* from, int64_t n, float* to);
  void (*f32_to_f16)(const float* from, int64_t n, uint16_t* to);
  void (*rms_norm)(const float* x, const float* weight, int64_t n, float eps, float* y);
  void (*silu_mul)(float* gate, const float* up, int64_t n);  // gate = silu(gate) * up
  // One block of a softmax that goes on: x = exp(x - *max) after *max took in the maximum of x,
  // *sum joined by the sum; returns the factor that what was summed under the old maximum is to be
  // multiplied by.
  float (*softmax_step)(float* x, int64_t n, float* max, float* sum);
  void (*scale)(float* x, int64_t n, float factor);
  // log(sum(exp(x)))
  double (*log_sum_exp)(const float* x, int64_t n);
};

// The best level of this processor, or the one that PITH_CPU names ("scalar", "avx2", "avx512"):
// read once, an unknown or unsupported name is Error(kUsage).
const CpuKernels& cpu_kernels();
// All levels that this processor can run, the best first.
int cpu_kernel_levels(const CpuKernels* const** levels);

extern const CpuKernels kScalarKernels;
extern const CpuKernels kAvx2Kernels;
extern const CpuKernels kAvx512Kernels;

}  // namespace pith
