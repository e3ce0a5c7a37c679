// The code of trellis-coded quantization (tcq.h), by itself for the files of kernels.
#pragma once

#include <stdint.h>

#include "formats/encodings/number_format.h"

namespace pith {

inline constexpr int kTcqWindow = 16;  // bits
inline constexpr int kTcqZero = 126;
// hash = int16(window) * factor + offset, of which a code takes the low 6 bits of each byte.
inline constexpr int32_t kTcqFactor = 0x7a17, kTcqOffset = 839847847;

PITH_BOTH constexpr uint32_t tcq_hash(uint16_t window) {
  return static_cast<uint32_t>(static_cast<int16_t>(window) * kTcqFactor) +
         static_cast<uint32_t>(kTcqOffset);
}
// 0 to 252.
PITH_BOTH constexpr uint8_t tcq_code(uint16_t window) {
  return static_cast<uint8_t>((tcq_hash(window) & 0x3f3f3f3fu) * 0x01010101u >> 24);
}

}  // namespace pith
