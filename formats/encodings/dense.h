// Elements as they are: f32, f16, bf16, and for reading only the integer types of containers.
// One plane, kCodes: [n, k] elements, row-major, without padding.
#pragma once

#include "formats/encodings/encoding.h"

namespace pith {
extern const EncodingOps kDenseOps;
}  // namespace pith
