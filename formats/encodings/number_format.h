// How one number is stored, wherever one is: the codes of a weight, keys and values in a cache,
// rounded activations, scales. Plain C++17 without the standard library: kernels of the GPU and of
// the processor read it as well.
//
// A new format is a name here, its bits below, its encoding in number_format() (encoding.h), and a
// case in each switch that is to take it. What takes only some is asked before: has_int_matmul()
// and its like on a processor, the launchers of kernels on a GPU.
#pragma once

#include <stdint.h>

#ifdef __CUDACC__
#define PITH_BOTH __host__ __device__
#else
#define PITH_BOTH
#endif

namespace pith {

// The order matters in one place: tables of CPU kernels over rows (runtime/cpu/kernels.h) are
// indexed by the first kRowFormats, of which kRowFloats are floats. New formats go to the end. It
// has 32 bits because GPU kernels compare it where it lies, in their arguments, which have no
// narrower operands.
enum class NumberFormat : int32_t {
  kF32,
  kF16,
  kBF16,
  kE4M3,  // 8-bit floats (Micikevicius et al. 2022)
  kE5M2,
  kInt8,  // integers; whether codes have a sign or a zero point is said where they are used
  kInt4,
  kInt2,
  kInt3,
  kInt5,
  kInt6,
  kNf4,   // indices of the 16 values of NF4 (Dettmers et al. 2023)
  kE2M1,  // 4-bit floats of MXFP4 (OCP 2023)
  kTcq2,  // trellis codes (tcq.h)
  kTcq3,
  kTcq4,
};
inline constexpr int kRowFloats = 5, kRowFormats = 7;

PITH_BOTH constexpr int bits_of(NumberFormat format) {
  switch (format) {
    case NumberFormat::kF32:
      return 32;
    case NumberFormat::kF16:
    case NumberFormat::kBF16:
      return 16;
    case NumberFormat::kE4M3:
    case NumberFormat::kE5M2:
    case NumberFormat::kInt8:
      return 8;
    case NumberFormat::kInt6:
      return 6;
    case NumberFormat::kInt5:
      return 5;
    case NumberFormat::kInt4:
    case NumberFormat::kNf4:
    case NumberFormat::kE2M1:
    case NumberFormat::kTcq4:
      return 4;
    case NumberFormat::kInt3:
    case NumberFormat::kTcq3:
      return 3;
    case NumberFormat::kInt2:
    case NumberFormat::kTcq2:
      return 2;
  }
  return 0;
}

PITH_BOTH constexpr bool is_integer(NumberFormat format) {
  switch (format) {
    case NumberFormat::kInt2:
    case NumberFormat::kInt3:
    case NumberFormat::kInt4:
    case NumberFormat::kInt5:
    case NumberFormat::kInt6:
    case NumberFormat::kInt8:
      return true;
    default:
      return false;
  }
}

PITH_BOTH constexpr bool is_trellis(NumberFormat format) {
  return format == NumberFormat::kTcq2 || format == NumberFormat::kTcq3 ||
         format == NumberFormat::kTcq4;
}

// Keys and values of a byte each share a scale a row.
PITH_BOTH constexpr bool has_row_scale(NumberFormat cached) {
  return cached == NumberFormat::kInt8 || cached == NumberFormat::kE4M3;
}

// Integers of 2, 3, 4, 5, 6 or 8 bits.
constexpr NumberFormat int_format(int bits) {
  switch (bits) {
    case 2:
      return NumberFormat::kInt2;
    case 3:
      return NumberFormat::kInt3;
    case 4:
      return NumberFormat::kInt4;
    case 5:
      return NumberFormat::kInt5;
    case 6:
      return NumberFormat::kInt6;
    default:
      return NumberFormat::kInt8;
  }
}

// The numbers that a method rounds to, in units of a scale: integers from -zero to top - zero, or
// those of an 8-bit float or of NF4 (zero is 0).
enum class Levels : int32_t { kIntegers, kE4M3, kE5M2, kNf4 };

}  // namespace pith
