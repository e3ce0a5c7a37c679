// 8-bit floats with f32 scales: w = s * float(code), one f32 product.
//   kCodes   [n, k] u8, f8e4m3 or f8e5m2
//   kScales  f32: [1] per tensor, [n] per row, [ceil(n/128), ceil(k/128)] per 128x128 block
// Scales put the largest magnitude of their area on the largest code (448 or 57344).
#pragma once

#include "formats/encodings/encoding.h"

namespace pith {

// The scale of an area whose largest magnitude is absmax. Error(kNumeric) naming `row` where it is
// not finite; 0 where it is below 2^-126.
float fp8_scale(const Encoding& e, float absmax, int64_t row);
// Where it lies in kScales, k columns a row.
int64_t fp8_scale_index(const Encoding& e, int64_t k, int64_t row, int64_t column);

extern const EncodingOps kFp8Ops;
}  // namespace pith
