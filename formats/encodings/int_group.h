// Integers in groups, and 4-bit normal floats in groups.
//
//   kInt  w = s * (q - z)         q in [0, 2^bits), z = 2^(bits-1) where symmetric, else an integer
//   in the same range kNf4  w = s * kNf4Values[q]   (Dettmers et al. 2023, QLoRA, appendix E)
//
// evaluated in f32: the difference is exact, one rounding for the product. Planes of [n, k] with G
// = ceil(k / group) groups a row:
//
//   kCodes      [n] rows of ceil(k/16) units; a unit is 16 codes in 2*bits bytes, code i in bits
//   [i*bits, (i+1)*bits) of the
//               unit read as one little-endian number. Codes beyond k are 0.
//   kScales     [n, G] f16 or bf16; where two_level int8, s = row_scale * value (f32 product)
//   kRowScales  [n] f16 or bf16, two_level only
//   kZeros      asymmetric only: [n] rows of ceil(G/16) units packed like codes
//
// A method chooses scales and zeros, stores them, reads back what the rounding left of them, and
// then chooses codes for those: store_scales, store_zeros, store_codes.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "formats/encodings/encoding.h"

namespace pith {

extern const std::array<float, 16> kNf4Values;
// The code of the value next to v; ties go to the lower one.
uint8_t nearest_nf4(float v);

struct GroupLayout {
  GroupLayout(const Encoding& e, int64_t n, int64_t k);

  int64_t n, k;
  int64_t group;   // of weights; k where the encoding says 0
  int64_t groups;  // per row
  int bits;
  uint64_t code_row_bytes;
  uint64_t zero_row_bytes;

  int64_t group_begin(int64_t g) const { return g * group; }
  int64_t group_end(int64_t g) const { return std::min(k, (g + 1) * group); }
};

// scales [groups], in: wanted, out: what the decoder will see. Error(kNumeric) for one that is not
// finite in the type of the planes. A scale may be negative; one too small for the type becomes 0.
void store_scales(const Encoding& e, const GroupLayout& layout, MutablePlanes to, int64_t row,
                  std::span<float> scales);
void store_zeros(const GroupLayout& layout, MutablePlanes to, int64_t row,
                 std::span<const uint8_t> zeros);
void store_codes(const GroupLayout& layout, MutablePlanes to, int64_t row,
                 std::span<const uint8_t> codes);

void load_scales(const Weight& w, const GroupLayout& layout, int64_t row, float* scales);
void load_zeros(const Weight& w, const GroupLayout& layout, int64_t row,
                uint8_t* zeros);  // symmetric: 2^(bits-1)
void load_codes(const Weight& w, const GroupLayout& layout, int64_t row, uint8_t* codes);  // [k]

// 16 codes of `bits` to and from 2*bits bytes; the reader touches one byte more.
void pack_unit(int bits, const uint8_t* codes, std::byte* to);
void unpack_unit(int bits, const std::byte* from, uint8_t* codes);

extern const EncodingOps kIntOps;
extern const EncodingOps kNf4Ops;

}  // namespace pith
