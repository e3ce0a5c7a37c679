// Codes, scales and zeros of weight_tiles.h, as a lane of a warp holds them.
#pragma once

#include "runtime/cuda/device/device.h"
#include "runtime/cuda/values.h"
#include "runtime/cuda/weight_tiles.h"

namespace pith::cuda {
namespace {

// The codes of a lane for one stage, on their way.
template <int bits>
struct Words {
  uint32_t w[2 * bits > 0 ? 2 * bits : 1];

  PITH_MEMBER void load(const void* codes, int64_t stage, int of_lane) {
    const auto* const at = static_cast<const unsigned char*>(codes) + stage * (32 * 8 * bits) +
                           of_lane * (bits == 1 ? 8 : 16);
    if constexpr (bits == 1) {
      const Bytes8 v = load_once8(at);
      w[0] = v.w[0];
      w[1] = v.w[1];
    } else if constexpr (bits > 1) {
#pragma unroll
      for (int c = 0; c < bits / 2; ++c) {
        const Bytes16 v = load_once16(at + 512 * c);
#pragma unroll
        for (int i = 0; i < 4; ++i) w[4 * c + i] = v.w[i];
      }
    }
  }
  // The two codes of pair `pair` in the halves of a register.
  PITH_MEMBER uint32_t pair(int pair) const {
    constexpr int in_word = 16 / (bits > 0 ? bits : 1);
    constexpr uint32_t mask = ((1u << bits) - 1) * 0x10001u;
    if constexpr (bits == 16) {
      return w[pair];
    } else {
      return w[pair / in_word] >> (bits * (pair % in_word)) & mask;
    }
  }
};

template <Codes codes>
struct Lane {
  static constexpr Parts kParts = parts_of(codes);
  Words<kParts.low> low;
  Words<kParts.high> high;

  PITH_MEMBER void load(const TileWeight& w, int64_t stage, int of_lane) {
    low.load(w.low, stage, of_lane);
    if constexpr (kParts.high > 0) high.load(w.high, stage, of_lane);
  }
  PITH_MEMBER uint32_t pair(int i) const {
    if constexpr (kParts.high > 0) return low.pair(i) | high.pair(i) << kParts.low;
    return low.pair(i);
  }
};

// Scales of two rows, r and r + 8, of one group.
PITH_DEVICE void load_scales(const TileWeight& w, int64_t tile, int64_t group, int row, float* to) {
  const int64_t at = ((tile * w.groups + group) * 8 + row) * 2;
  if (w.scale_type == Scales::kF16 || w.scale_type == Scales::kBF16) {
    const auto* const s = static_cast<const uint16_t*>(w.scales) + at;
    const bool f16 = w.scale_type == Scales::kF16;
    to[0] = f16 ? half_float(s[0]) : bf16_float(s[0]);
    to[1] = f16 ? half_float(s[1]) : bf16_float(s[1]);
  } else if (w.scale_type == Scales::kTwoLevels) {
    const auto* const s = static_cast<const int8_t*>(w.scales) + at;
    const float* const of_row = w.row_scales + (tile * 8 + row) * 2;
    to[0] = of_row[0] * static_cast<float>(s[0]);
    to[1] = of_row[1] * static_cast<float>(s[1]);
  } else if (w.scale_type == Scales::kF32) {
    to[0] = static_cast<const float*>(w.scales)[at];
    to[1] = static_cast<const float*>(w.scales)[at + 1];
  } else {
    to[0] = to[1] = 1;
  }
}

PITH_DEVICE void load_zeros(const TileWeight& w, int64_t tile, int64_t group, int row,
                            uint32_t* to) {
  const uint8_t* const z = w.zeros ? w.zeros + ((tile * w.groups + group) * 8 + row) * 2 : nullptr;
  to[0] = 0x10001u * (z ? z[0] : static_cast<uint32_t>(w.zero));
  to[1] = 0x10001u * (z ? z[1] : static_cast<uint32_t>(w.zero));
}

// Whether a step of a stage is the first of its group. Stages of a group that is longer go one by
// one; steps_per_group is a power of two, or 0 for one group a row.
PITH_DEVICE bool begins_group(const TileWeight& w, int step) {
  return (step & (w.steps_per_group > 0 ? w.steps_per_group - 1 : 7)) == 0;
}
PITH_DEVICE void load_group(const TileWeight& w, int64_t tile, int64_t stage, int step, int row,
                            float* scales, uint32_t* zeros) {
  int64_t group = 0;
  if (w.steps_per_group > 0) {
    group = (stage * 8 + step) / w.steps_per_group;
    group = group < w.groups ? group : w.groups - 1;  // behind column k, where inputs are 0
  }
  load_scales(w, tile, group, row, scales);
  load_zeros(w, tile, group, row, zeros);
}

}  // namespace
}  // namespace pith::cuda
