// Norms, activation functions, conversions to activations of a GEMM, embedding: the arguments of
// their kernels. Pointers are to device memory.
#pragma once

#include <stdint.h>

#include "runtime/cuda_kernels/gemm/activations.h"
#include "runtime/cuda_kernels/gemm/weight_tiles.h"

namespace pith::cuda {

// x in f16 with a power of two a token, or rounded; and in int8.
struct ToHalf {
  const float* x;  // [m, n], rows `ldx` apart
  int64_t n;
  HalfInputs to;
  int64_t ldx = 0;  // 0: n
};
struct ToInt8 {
  const float* x;  // [m, n], rows `ldx` apart
  int64_t n;
  Int8Inputs to;
  int64_t ldx = 0;  // 0: n
};
// y = the numbers that x stands for when it is rounded to 8 bits (formats/encodings/input.h) with a
// scale for 128 columns of a token.
struct RoundInputs {
  const float* x;  // [m, n]
  int64_t m, n;
  bool floats;  // e4m3, else int8
  float* y;
};
// norm(x), as ToHalf and ToInt8 have it.
struct NormToHalf {
  const float* x;  // [m, n]
  const float* weight;
  int64_t n;
  float eps;
  HalfInputs to;
};
struct NormToInt8 {
  const float* x;
  const float* weight;
  int64_t n;
  float eps;
  Int8Inputs to;
};
// kClamped: gate and up within a limit of 7, gate sigmoid(1.702 gate) (up + 1)
enum class Activate : int32_t { kNone, kSilu, kGeluTanh, kGelu, kClamped };
struct ActivateToHalf {
  Activate how;
  float* gate;      // [m, n]: act(gate) * up on return
  const float* up;  // or null
  int64_t n;
  HalfInputs to;
};
struct ActivateToInt8 {
  Activate how;
  float* gate;
  const float* up;
  int64_t n;
  Int8Inputs to;
};
// y (+)= norm(x)
struct Norm {
  const float* x;
  const float* weight;
  int64_t m, n;
  float eps;
  float* y;  // may be x, unless it is added to
  bool add;
};
// x = limit tanh(x / limit)
struct Cap {
  float* x;  // [m, n]
  int64_t m, n;
  float limit;
};
// to[t] = scale * row tokens[t] of w, [m, k]
struct Embed {
  TileWeight w;
  const int32_t* tokens;
  int64_t m;
  float scale;
  float* to;
};
struct Gather {
  const float* x;  // [., n]
  const int64_t* rows;
  int64_t m, n;
  float* y;
};

// y[t] += sigmoid(gate[t]) * x[t]
struct AddGated {
  const float* x;  // [m, n]
  const float* gate;
  int64_t m, n;
  float* y;
};
// y[t, i] = x[t, i] for i < n
struct CopyColumns {
  const float* x;
  int64_t ldx, m, n;
  float* y;
  int64_t ldy;
};

}  // namespace pith::cuda
