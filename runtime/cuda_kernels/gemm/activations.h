// Activations as a GEMM takes them, in f16 or int8 with a scale a token. Kernels of other families
// write them too: norms, activation functions, decode attention. Pointers are to device memory.
#pragma once

#include <stdint.h>

#include "formats/encodings/number_format.h"

namespace pith::cuda {

// Activations of a GEMM in f16, each token divided by a power of two so that none overflows; or
// quantized as formats/encodings/input.h has it, with one scale a token, its own or `fixed` where
// that is not 0 (the codes are exact in f16).
struct HalfInputs {
  uint16_t* values;  // [m, stride], 0 from column k on
  int64_t stride;    // a multiple of kStageColumns
  float* scales;     // [m]
  int64_t m;
  NumberFormat round = NumberFormat::kF16;
  float fixed = 0;

  // The rows from `first` on; empty inputs stay empty.
  HalfInputs rows_from(int64_t first) const {
    if (values == nullptr) return *this;
    return {values + first * stride, stride, scales + first, m - first, round, fixed};
  }
};

// The same codes of int8 in bytes.
struct Int8Inputs {
  int8_t* values;  // [m, stride], 0 from column k on
  int64_t stride;  // a multiple of kStageColumns
  float* scales;   // [m]
  int64_t m;
  float fixed;

  Int8Inputs rows_from(int64_t first) const {
    if (values == nullptr) return *this;
    return {values + first * stride, stride, scales + first, m - first, fixed};
  }
};

}  // namespace pith::cuda
