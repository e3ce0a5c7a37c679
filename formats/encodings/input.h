// How a linear layer rounds its inputs at run time: x becomes s * q, with q an integer or an 8-bit
// float and s an f32 scale.
//
//   kI8      q = round(x / s) within [-127, 127]       s = absmax / 127
//   kF8E4M3  q = x / s rounded to e4m3, within 448     s = absmax / 448
//
// x / s is an f32 division, rounding is to nearest, ties to even, and what lies beyond the range
// takes its end. A scale below 2^-126 counts as 0, and then all q are 0. A token with an input that
// is not finite has the scale NaN (of that token, or of those 128 columns): its outputs are NaN.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/dtype.h"

namespace pith {

enum class InputScale : uint8_t {
  kToken,     // of a token, by its absmax
  kTensor,    // one number from calibration: `value`
  kBlock128,  // of 128 columns of a token, by their absmax
};

struct InputEncoding {
  DType dtype = DType::kF32;  // kF32: inputs are used as they are; else kI8 or kF8E4M3
  InputScale scale = InputScale::kToken;
  float value = 0;  // kTensor: the scale, finite and at least 2^-126

  bool rounds() const { return dtype != DType::kF32; }
  friend bool operator==(const InputEncoding&, const InputEncoding&) = default;
};

inline float largest_code(const InputEncoding& e) {
  return e.dtype == DType::kI8 ? 127.0f : 448.0f;
}
// kTensor for inputs up to `absmax`.
inline float tensor_scale(const InputEncoding& e, float absmax) {
  return absmax > 0 ? absmax / largest_code(e) : 1.0f;
}

std::string to_string(const InputEncoding& e);  // "i8-token", "f8e4m3-tensor", "f32"
// The reverse; the value of a constant scale is 0. Error(kUsage) for anything else.
InputEncoding parse_input_encoding(std::string_view name);
void check(const InputEncoding& e);  // Error(kUsage) for nonsense

}  // namespace pith
