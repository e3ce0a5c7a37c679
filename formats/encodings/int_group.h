// Integers in groups, 4-bit normal floats in groups, and 4-bit floats with powers of two.
//
//   kInt  w = s * (q - z)              q in [0, 2^bits); z = 2^(bits-1) where symmetric, else an
//                                      integer in the same range
//   kNf4  w = s * kNf4Values[q]        (Dettmers et al. 2023, QLoRA, appendix E)
//   kMx   w = 2^(e - 127) * e2m1(q)    groups of 32 (OCP Microscaling Formats 1.0)
//
// evaluated in f32: the difference is exact, one rounding for the product.
//
// Rows stand in tiles of 16, so that a kernel reads one 64-byte line for 16 of them, and columns in
// units of 32; what is missing at the end of either is 0. Planes of [n, k] with G = ceil(k / group)
// groups a row:
//
//   kCodes      [ceil(n/16), ceil(k/32), bits, 16] words of 32 bits, little-endian: the words of a
//               unit of a row stand a line apart. Codes are split in parts of 8, 4, 2 or 1 bits (3
//               = 2 + 1, 5 = 4 + 1, 6 = 4 + 2), the low and larger part first; a part of p bits
//               takes p words. Column i of the unit has its part in word i / (32/p), byte i % 4,
//               from bit p * (i / 4 % (8/p)) of the byte on: a mask and a shift leave four
//               neighbours in the four bytes of a lane.
//   kScales     [ceil(n/16), G, 16] f16 or bf16; where two_level int8, s = row_scale * value (f32
//               product); kMx: bytes e, of which 255 is not a number
//   kRowScales  [n] f16 or bf16, two_level only
//   kZeros      asymmetric only: [ceil(n/16), G] units of 16 codes in 2*bits bytes, code i in bits
//               [i*bits, (i+1)*bits) of the unit read as one little-endian number
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

// Values of the 4-bit floats e2m1: 0 0.5 1 1.5 2 3 4 6, then the same with a sign (code 8: 0).
extern const std::array<float, 16> kE2M1Values;
uint8_t nearest_e2m1(float v);  // to nearest, ties to even codes, within 6; never code 8
float mx_scale(uint8_t e);      // 2^(e - 127)
// The power of two of a group: the one that puts its largest number between 4 and 8, or the next
// one, which cuts nothing off, by the weighted squares of what they miss. weights [n], or null.
int mx_exponent(const float* x, const float* weights, int64_t n);

// Whether the planes of a matrix are those of this file: tiles of codes, and scales of groups.
inline bool in_groups(const Encoding& e) {
  return e.kind == EncodingKind::kMx || (!e.is_sparse() && e.has_group_scales());
}

struct GroupLayout {
  static constexpr int64_t kTileRows = 16, kUnitColumns = 32;

  GroupLayout(const Encoding& e, int64_t n, int64_t k);

  int64_t n, k;
  int64_t group;   // of weights; k where the encoding says 0
  int64_t groups;  // per row
  int bits;
  int64_t units;  // per row
  uint64_t code_tile_bytes;
  uint64_t scale_tile_bytes;
  uint64_t zero_tile_bytes;

  int64_t group_begin(int64_t g) const { return g * group; }
  int64_t group_end(int64_t g) const { return std::min(k, (g + 1) * group); }
};

// scales [groups], in: wanted, out: what the decoder will see. Error(kNumeric) for one that is not
// finite in the type of the planes. A scale may be negative; one too small for the type becomes 0.
// A scale of kMx becomes the power of two next to it, 1 for 0. two_level: the largest that the row
// can have is `largest`, or where that is 0 the largest of `scales`.
void store_scales(const Encoding& e, const GroupLayout& layout, MutablePlanes to, int64_t row,
                  std::span<float> scales, float largest = 0);
void store_zeros(const GroupLayout& layout, MutablePlanes to, int64_t row,
                 std::span<const uint8_t> zeros);
void store_codes(const GroupLayout& layout, MutablePlanes to, int64_t row,
                 std::span<const uint8_t> codes);

// A row of kMx from its codes [k] and the bytes of its scales [groups].
void store_mx_row(const GroupLayout& layout, MutablePlanes to, int64_t row,
                  std::span<const uint8_t> codes, std::span<const uint8_t> scales);

void load_scales(const Weight& w, const GroupLayout& layout, int64_t row, float* scales);
void load_zeros(const Weight& w, const GroupLayout& layout, int64_t row,
                uint8_t* zeros);  // [groups]; symmetric: 2^(bits-1)
// codes [k], and the 0 behind them up to a multiple of 32
void load_codes(const Weight& w, const GroupLayout& layout, int64_t row, uint8_t* codes);

// The parts that codes of `bits` are split in, the low one first: {4, 2} of 6, {4, 0} of 4.
constexpr std::array<int, 2> code_parts(int bits) {
  for (const int low : {8, 4, 2})
    if (bits >= low) return {low, bits - low};
  return {bits, 0};
}

extern const EncodingOps kIntOps;
extern const EncodingOps kNf4Ops;
extern const EncodingOps kMxOps;
extern const EncodingOps kTcqOps;

}  // namespace pith
