// Layout of weights on the device: one for every encoding, made once from the planes of the
// file (repack.cu), read by products of few and of many tokens.
//
// Rows stand in tiles of 16 and columns in stages of 128, which are 8 steps of 16; what is missing
// at the end of either is 0. A tile and a step are the first operand of one mma.m16n8k16: lane
// 4 g + t of a warp has its rows g and g + 8 and columns 4 t to 4 t + 3, as four pairs
//
//   pair 0 [g, 4t], [g, 4t+1]    pair 1 [g+8, 4t], [g+8, 4t+1]
//   pair 2 [g, 4t+2], [g, 4t+3]  pair 3 [g+8, 4t+2], [g+8, 4t+3]
//
// (the order of columns inside of a step is free where both operands have the same). A code has one
// or two parts of p = 16, 8, 4, 2 or 1 bits (3 = 2 + 1, low part first). Of a part, a lane has 2 p
// words of 32 bits for a stage: pair P = 4 step + i lies in word P / (16/p), its first code from
// bit p (P % (16/p)) on and its second 16 bits above, so that a shift and a mask leave two codes in
// the two halves of a register.
//
//   codes   [tile][stage][ceil(p/2)][32 lanes] of 16 bytes (8 where p = 1)
//
// Trellis codes (formats/encodings/tcq.h) have the same number of words. In two steps 2 p and 2 p +
// 1 a lane has the bits of columns 32 p + 8 t to 32 p + 8 t + 7, B a column (B = 2, 3 or 4); step 2
// p takes the first four of them. Windows go on in the next lane.
//
//   B = 4   word 2 p + row half: 32 bits of row g + 8 half
//   B < 4   word p of the low part: the first 16 bits of rows g and g + 8; B = 3: byte
//           2 p + half of the high part: the 8 bits behind them
//   tails   [tile][stage][8]: the 16 bits behind the stage, of rows r and r + 8
//
//   scales  [tile][group][8][2]: rows r and r + 8 side by side
//   zeros   the same, bytes
#pragma once

#include <stdint.h>

#include "formats/encodings/number_format.h"

namespace pith::cuda {

inline constexpr int64_t kTileRows = 16, kStageColumns = 128, kStepColumns = 16;

enum class Scales : int32_t {
  kNone,
  kF16,
  kBF16,
  kF32,
  kTwoLevels,  // int8, times an f32 scale of the row
};

struct TileWeight {
  NumberFormat format;  // integers mean code - zero
  Scales scale_type;
  int64_t n, k;
  int64_t tiles, stages;
  int64_t groups;       // of scales, a row: groups_of()
  int32_t group_shift;  // a group is 2^group_shift steps, at most a stage; or kWholeRow
  int32_t zero;         // of all groups, where `zeros` is null
  const void* low;      // parts of codes
  const void* high;     // or null
  const void* scales;
  const uint8_t* zeros;
  const float* row_scales;  // [tile][8][2]
  const uint32_t* tails;    // of trellis codes
};

inline constexpr int32_t kWholeRow = 30;  // as group_shift
PITH_BOTH constexpr int64_t groups_of(int64_t stages, int32_t group_shift) {
  return group_shift == kWholeRow ? 1 : stages << (3 - group_shift);
}

// Bits of the two parts of a code; none of formats that no tile has.
struct Parts {
  int low, high;
};
PITH_BOTH constexpr Parts parts_of(NumberFormat format) {
  switch (format) {
    case NumberFormat::kInt2:
    case NumberFormat::kTcq2:
      return {2, 0};
    case NumberFormat::kInt3:
    case NumberFormat::kTcq3:
      return {2, 1};
    case NumberFormat::kInt4:
    case NumberFormat::kTcq4:
    case NumberFormat::kNf4:
    case NumberFormat::kE2M1:
      return {4, 0};
    case NumberFormat::kInt5:
      return {4, 1};
    case NumberFormat::kInt6:
      return {4, 2};
    case NumberFormat::kInt8:
    case NumberFormat::kE4M3:
    case NumberFormat::kE5M2:
      return {8, 0};
    case NumberFormat::kF16:
    case NumberFormat::kBF16:
      return {16, 0};
    default:
      return {0, 0};
  }
}

// The first of the four columns of a stage that lane t of a quad has in a step.
PITH_BOTH constexpr int column_of(NumberFormat format, int step, int t) {
  return is_trellis(format) ? step / 2 * 32 + 8 * t + step % 2 * 4 : step * 16 + 4 * t;
}

// Steps of a stage that have the same scale.
PITH_BOTH constexpr int group_steps(int32_t group_shift) {
  return group_shift >= 3 ? 8 : 1 << group_shift;
}
// Whether the same kernel takes both.
PITH_BOTH constexpr bool alike(const TileWeight& a, const TileWeight& b) {
  return a.format == b.format && a.stages == b.stages &&
         group_steps(a.group_shift) == group_steps(b.group_shift);
}

PITH_BOTH constexpr int64_t part_bytes(int64_t tiles, int64_t stages, int bits) {
  return tiles * stages * 32 * 8 * bits;
}

}  // namespace pith::cuda
