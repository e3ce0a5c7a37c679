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

  static constexpr int kChunk = 16 / (bits > 0 ? bits : 1);  // steps of 16 bytes

  // From those of a tile and a stage, in device memory, where they are read once.
  PITH_MEMBER void load(const unsigned char* of_tile, int of_lane) {
    const auto* const at = of_tile + of_lane * (bits == 1 ? 8 : 16);
    if constexpr (bits == 1) {
      const Bytes8 v = load_once8(at);
      w[0] = v.w[0];
      w[1] = v.w[1];
    } else if constexpr (bits > 1) {
#pragma unroll
      for (int c = 0; c < bits / 2; ++c) set(c, load_once16(at + 512 * c));
    }
  }
  // Or in shared memory: those that begin with this step, if any do.
  PITH_MEMBER void load_shared(const unsigned char* of_tile, int of_lane, int step) {
    const auto* const at = of_tile + of_lane * (bits == 1 ? 8 : 16);
    if constexpr (bits == 1) {
      if (step > 0) return;
      const Bytes8 v = load8(at);
      w[0] = v.w[0];
      w[1] = v.w[1];
    } else if constexpr (bits > 1) {
      if (step % kChunk == 0) set(step / kChunk, load16(at + 512 * (step / kChunk)));
    }
  }
  PITH_MEMBER void set(int chunk, const Bytes16& v) {
#pragma unroll
    for (int i = 0; i < 4; ++i) w[4 * chunk + i] = v.w[i];
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

template <int bits>
PITH_DEVICE const unsigned char* codes_at(const void* codes, int64_t stage) {
  return static_cast<const unsigned char*>(codes) + stage * (32 * 8 * bits);
}

template <Codes codes>
struct Lane {
  static constexpr Parts kParts = parts_of(codes);
  Words<kParts.low> low;
  Words<kParts.high> high;

  PITH_MEMBER void load(const TileWeight& w, int64_t stage, int of_lane) {
    low.load(codes_at<kParts.low>(w.low, stage), of_lane);
    if constexpr (kParts.high > 0) high.load(codes_at<kParts.high>(w.high, stage), of_lane);
  }
  // Both parts in shared memory, one behind the other.
  PITH_MEMBER void load_shared(const unsigned char* at, int of_lane, int step) {
    low.load_shared(at, of_lane, step);
    if constexpr (kParts.high > 0) high.load_shared(at + 256 * kParts.low, of_lane, step);
  }
  PITH_MEMBER uint32_t pair(int i) const {
    if constexpr (kParts.high > 0) return low.pair(i) | high.pair(i) << kParts.low;
    return low.pair(i);
  }
};

// Scales of two rows, elements `at` and behind it; `of_rows` are those of the rows where there are
// two levels.
PITH_DEVICE void read_scales(Scales type, const void* scales, int64_t at, const float* of_rows,
                             float* to) {
  if (type == Scales::kF16 || type == Scales::kBF16) {
    const auto* const s = static_cast<const uint16_t*>(scales) + at;
    const bool f16 = type == Scales::kF16;
    to[0] = f16 ? half_float(s[0]) : bf16_float(s[0]);
    to[1] = f16 ? half_float(s[1]) : bf16_float(s[1]);
  } else if (type == Scales::kTwoLevels) {
    const auto* const s = static_cast<const int8_t*>(scales) + at;
    to[0] = of_rows[0] * static_cast<float>(s[0]);
    to[1] = of_rows[1] * static_cast<float>(s[1]);
  } else if (type == Scales::kF32) {
    to[0] = static_cast<const float*>(scales)[at];
    to[1] = static_cast<const float*>(scales)[at + 1];
  } else {
    to[0] = to[1] = 1;
  }
}
PITH_DEVICE const float* row_scales_of(const TileWeight& w, int64_t tile, int row) {
  return w.row_scales ? w.row_scales + (tile * 8 + row) * 2 : nullptr;
}
// Scales of rows r and r + 8 of one group.
PITH_DEVICE void load_scales(const TileWeight& w, int64_t tile, int64_t group, int row, float* to) {
  read_scales(w.scale_type, w.scales, ((tile * w.groups + group) * 8 + row) * 2,
              row_scales_of(w, tile, row), to);
}

// The zeros of two rows, each in both halves.
PITH_DEVICE void read_zeros(const TileWeight& w, const uint8_t* zeros, int64_t at, uint32_t* to) {
  const uint8_t* const z = w.zeros ? zeros + at : nullptr;
  to[0] = 0x10001u * (z ? z[0] : static_cast<uint32_t>(w.zero));
  to[1] = 0x10001u * (z ? z[1] : static_cast<uint32_t>(w.zero));
}

// Whether a step of a stage is the first of its group. Stages of a group that is longer go one by
// one; steps_per_group is a power of two, or 0 for one group a row.
PITH_DEVICE bool begins_group(const TileWeight& w, int step) {
  return (step & (w.steps_per_group > 0 ? w.steps_per_group - 1 : 7)) == 0;
}
PITH_DEVICE int64_t group_at(const TileWeight& w, int64_t stage, int step) {
  if (w.steps_per_group == 0) return 0;
  const int64_t group = (stage * 8 + step) / w.steps_per_group;
  return group < w.groups ? group : w.groups - 1;  // behind column k, where inputs are 0
}

}  // namespace
}  // namespace pith::cuda
