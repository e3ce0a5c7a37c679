// y[m, n] (+)= x[m, k] w[n, k]^T of int8 inputs and integer weights, in integers.
//
// Within columns where the scales of both do not change, the sum of (code - zero) * x is exact in
// int32; it is multiplied in f32 by the product of the weight's scale and the token's, and those
// pieces of a row are added up in order, by fused multiply-adds. Pieces are as long as the weight's
// group, the inputs' block and int32 (65536 columns of 8 bits: 255 * 127 * 2^16 < 2^31) allow. With
// two levels of scales the int8 scales of groups are factors of the integer sum, so that a piece is
// not cut at groups, but where 128 times as much might not fit.
//
// Few tokens: 16 rows at a time, codes as they lie. From kPanelTokens on 32 rows are unpacked once
// into a panel for all tokens. Where (code - zero) * int8 scale does not fit 8 bits in a tile of
// two-level weights (Lin et al. 2024, QServe, make weights where it always does), the tile goes the
// way of few tokens. An element of y is the same bits whichever way it went, on every instruction
// level, and whatever stands beside it.
#pragma once

#include <span>

#include "formats/encodings/encoding.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/rounded_inputs.h"

namespace pith {

inline constexpr int64_t kPanelTokens = 64;

// Whether weights like this can be multiplied in integers.
bool has_int_matmul(const Encoding& e);
// Columns for one scale of inputs that are rounded for the sake of such a weight alone.
int64_t input_block(const Encoding& e);

// y [count, n] (+)= x w^T, of `count` of the tokens from `first` on; -1: all of them
struct IntProductTo {
  const Weight* w;
  float* y;
  bool add;
  int64_t first = 0, count = -1;
};
// Several, in one loop over all their rows.
void int_matmul(const CpuKernels& kernels, RoundedInputs& x,
                std::span<const IntProductTo> products);

}  // namespace pith
