// The block quantization types of GGUF files, read only. A row is a run of blocks; a block holds 32
// or 256 weights with its scales in front. One plane, kCodes: the blocks as stored. k must be a
// multiple of the block.
//
// Block layouts (little-endian, d and dmin are f16; q the codes):
//   Q4_0  32: d, 16 B nibbles (low halves first)      w = d (q - 8)
//   Q4_1  32: d, m, 16 B nibbles                       w = d q + m
//   Q5_0  32: d, 4 B high bits, 16 B nibbles           w = d (q - 16)
//   Q5_1  32: d, m, 4 B high bits, 16 B nibbles        w = d q + m
//   Q8_0  32: d, 32 int8                               w = d q
//   Q2_K 256: 16 B (scale, min) nibbles, 64 B, d, dmin w = d sc q - dmin m
//   Q3_K 256: 32 B high bits, 64 B, 12 B scales, d     w = d (sc - 32) (q - 4)
//   Q4_K 256: d, dmin, 12 B scales and mins, 128 B     w = d sc q - dmin m
//   Q5_K 256: d, dmin, 12 B, 32 B high bits, 128 B     w = d sc q - dmin m
//   Q6_K 256: 128 B low, 64 B high, 16 int8 scales, d  w = d sc (q - 32)
//   IQ4_NL 32: d, 16 B nibbles                         w = d table[q]
//   MXFP4  32: a byte e, 16 B nibbles                  w = 2^(e - 127) e2m1(q)  (OCP MX 1.0)
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "formats/encodings/encoding.h"

namespace pith {

struct GgmlTypeInfo {
  GgmlType type;
  const char* name;  // "q4_0"
  int64_t block;     // weights in a block
  uint64_t bytes;    // bytes of a block
};

std::span<const GgmlTypeInfo> ggml_types();           // dense ones included
const GgmlTypeInfo* ggml_type_info(uint32_t number);  // nullptr: unknown or unsupported
Encoding encoding_of(GgmlType type);                  // dense for F32, F16, BF16

extern const EncodingOps kGgmlOps;

}  // namespace pith
