// Codes, scales and zeros of weight_tiles.h, as a lane of a warp holds them.
#pragma once

#include "formats/encodings/tcq_code.h"
#include "runtime/cuda_kernels/device/device.cuh"
#include "runtime/cuda_kernels/gemm/convert.cuh"
#include "runtime/cuda_kernels/gemm/weight_tiles.h"

namespace pith::cuda {
namespace {

// A part of the codes of a lane for one stage.
template <int bits>
struct Words {
  static constexpr int kOfLane = bits == 1 ? 8 : 16;         // bytes side by side
  static constexpr int kChunk = 16 / (bits > 0 ? bits : 1);  // steps of 16 bytes
  static constexpr int kOfStage = 32 * 8 * bits;             // bytes of all lanes

  uint32_t w[2 * bits > 0 ? 2 * bits : 1];

  // From those of a lane, in device memory, where they are read once.
  PITH_MEMBER void load(const unsigned char* at) {
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
  PITH_MEMBER void load_shared(const unsigned char* at, int step) {
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
};

// Where the codes of a lane lie, of a tile's first stage.
template <NumberFormat format>
struct CodesOfLane {
  static constexpr Parts kParts = parts_of(format);
  const unsigned char *low, *high;
  const uint32_t* tails;

  PITH_MEMBER CodesOfLane(const TileWeight& w, int64_t tile, int of_lane)
      : low(static_cast<const unsigned char*>(w.low) +
            tile * w.stages * Words<kParts.low>::kOfStage + of_lane * Words<kParts.low>::kOfLane),
        high(kParts.high == 0 ? nullptr
                              : static_cast<const unsigned char*>(w.high) +
                                    tile * w.stages * Words<kParts.high>::kOfStage +
                                    of_lane * Words<kParts.high>::kOfLane),
        tails(is_trellis(format) ? w.tails + tile * w.stages * 8 + of_lane / 4 : nullptr) {}
};

template <NumberFormat format>
struct Lane {
  static constexpr Parts kParts = parts_of(format);
  static constexpr bool kTrellis = is_trellis(format);
  Words<kParts.low> low;
  Words<kParts.high> high;
  // Trellis codes need the tail of the stage, and by pairs of steps the 16 bits behind the lane's
  // own, of both rows.
  uint32_t tail, next[kTrellis ? 4 : 1];

  PITH_MEMBER void load(const CodesOfLane<format>& from, int32_t stage) {
    low.load(from.low + int64_t{stage} * Words<kParts.low>::kOfStage);
    if constexpr (kParts.high > 0)
      high.load(from.high + int64_t{stage} * Words<kParts.high>::kOfStage);
    if constexpr (kTrellis) tail = load4(from.tails + int64_t{stage} * 8);
  }
  // Both parts in shared memory, one behind the other; `tails`: those of trellis codes.
  PITH_MEMBER void load_shared(const unsigned char* at, const unsigned char* tails, int of_lane,
                               int step) {
    if constexpr (kTrellis) {  // other lanes need words before it is their step
      if (step > 0) return;
#pragma unroll
      for (int i = 0; i < 8; ++i) load_words(at, of_lane, i);
      tail = load4(tails + of_lane / 4 * 4);
      link();
    } else {
      load_words(at, of_lane, step);
    }
  }
  // Once a stage, by all lanes, before pair_values() of trellis codes.
  PITH_MEMBER void link() {
    if constexpr (kTrellis) {
      const int t = lane() % 4, from = lane() - t + (t + 1) % 4;
#pragma unroll
      for (int p = 0; p < 4; ++p) {
        const uint32_t behind = p < 3 ? first_bits(p < 3 ? p + 1 : 3) : 0;
        const uint32_t of_next = shuffle(t == 0 ? behind : first_bits(p), from);
        next[p] = p == 3 && t == 3 ? tail : of_next;
      }
    }
  }

 private:
  PITH_MEMBER void load_words(const unsigned char* at, int of_lane, int step) {
    low.load_shared(at + of_lane * Words<kParts.low>::kOfLane, step);
    if constexpr (kParts.high > 0)
      high.load_shared(at + Words<kParts.low>::kOfStage + of_lane * Words<kParts.high>::kOfLane,
                       step);
  }
  // The first 16 bits of two steps, of both rows.
  PITH_MEMBER uint32_t first_bits(int p) const {
    return kParts.low == 4 ? select_bytes(low.w[2 * p], low.w[2 * p + 1], 0x5410) : low.w[p];
  }
};

// v 2^n; bits that fall out are forgotten.
PITH_DEVICE uint32_t shifted(uint32_t v, int n) { return n < 0 ? v >> -n : v << n; }

// What values of integers have too much in step_values, by the place of the code in a byte: of rows
// g and g + 8, in both halves of a register.
template <NumberFormat format>
struct ZeroPoint {
  static constexpr int kBits = parts_of(format).low,
                       kPlaces = is_integer(format) && kBits < 8 ? 8 / kBits : 1;
  uint32_t minus[kPlaces][2];

  // `zeros`: bytes, of the two rows.
  PITH_MEMBER void set(uint32_t zeros) {
    if constexpr (is_integer(format)) {
      const uint32_t zero[2] = {select_bytes(zeros, 0, 0x4040), select_bytes(zeros, 0, 0x4141)};
#pragma unroll
      for (int i = 0; i < kPlaces; ++i) {
        const int place = i * kBits;  // the f16 of -(2^(10 - place) + zero)
        const uint32_t power = 0x80008000u + static_cast<uint32_t>(25 - place) * 0x04000400u;
#pragma unroll
        for (int row = 0; row < 2; ++row) minus[i][row] = power + (zero[row] << place);
      }
    }
  }
};

// The windows of the columns of two steps that a lane has of one row, B bits after each other.
struct TcqWindows {
  uint32_t low, high;
};
template <NumberFormat format>
PITH_DEVICE TcqWindows windows_of(const Lane<format>& c, int p, int half) {
  const uint32_t behind = c.next[p] >> (16 * half) & 0xffff;
  if constexpr (format == NumberFormat::kTcq4) {
    return {c.low.w[2 * p + half], behind};
  } else {
    const uint32_t first = c.low.w[p] >> (16 * half) & 0xffff;
    if constexpr (format == NumberFormat::kTcq2) return {first | behind << 16, 0};
    const uint32_t middle = c.high.w[p / 2] >> (8 * (2 * (p % 2) + half)) & 0xff;
    return {first | middle << 16 | behind << 24, behind >> 8};
  }
}
// tcq_code(window) - 126 of columns `column` and the next, as f16. 1024 + code has the bits of 1024
// plus those of the code.
template <NumberFormat format>
PITH_DEVICE uint32_t tcq_pair(const TcqWindows& w, int column) {
  uint32_t codes[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int at = (parts_of(format).low + parts_of(format).high) * (column + i);
    const uint32_t window = at <= 16 ? w.low >> at : funnel_shift(w.low, w.high, at);
    codes[i] = add_bytes(tcq_hash(static_cast<uint16_t>(window)) & 0x3f3f3f3fu, 0x6400u);
  }
  return half2_fma(codes[0] | codes[1] << 16, 0x3c003c00u, 0xe47ee47eu);  // less 1150
}

// The values of pair `pair`, in the halves of a register, as f16 (bf16 weights: as they are); of
// integers less their zero.
//
// An integer at bit p of the f16 of 1024 makes it 1024 + code 2^p, so that one fused multiply-add,
// exact, leaves code - zero. An e4m3 moved to the places of an f16 is 2^-8 times what it means, an
// e2m1 2^-14.
template <NumberFormat format>
PITH_DEVICE uint32_t pair_values(const Lane<format>& c, int pair,
                                 const ZeroPoint<format>& zero_point, const uint32_t* table) {
  if constexpr (is_trellis(format))
    return tcq_pair<format>(windows_of(c, pair / 8, pair % 2), pair % 8 / 4 * 4 + pair % 4 / 2 * 2);
  constexpr Parts kBits = parts_of(format);
  constexpr int kPairs = 16 / kBits.low;  // of a word
  const uint32_t word = c.low.w[pair / kPairs];
  const int at = pair % kPairs * kBits.low;  // in a half of it
  if constexpr (kBits.low == 16) {
    return word;
  } else if constexpr (format == NumberFormat::kE5M2) {
    return shifted(word, 8 - at) & 0xff00ff00u;
  } else if constexpr (format == NumberFormat::kE4M3) {
    return and_or(shifted(word, 8 - at), 0x80008000u, shifted(word, 7 - at) & 0x3f803f80u);
  } else if constexpr (format == NumberFormat::kE2M1) {
    return and_or(shifted(word, 12 - at), 0x80008000u, shifted(word, 9 - at) & 0x0e000e00u);
  } else if constexpr (format == NumberFormat::kNf4) {
    return table[(word >> at & 15) | (shifted(word, -12 - at) & 0xf0)];
  } else if constexpr (format == NumberFormat::kInt8) {
    const uint32_t v = select_bytes(word, 0x64646464u, at == 0 ? 0x4240 : 0x4341);
    return half2_fma(v, 0x3c003c00u, zero_point.minus[0][pair % 2]);
  } else {
    const int place = at % 8;
    const auto mask = [](int bits) { return ((1u << bits) - 1) * 0x10001u; };
    uint32_t v = and_or(shifted(word, place - at), mask(kBits.low) << place, 0x64006400u);
    if constexpr (kBits.high > 0) {
      constexpr int kHighPairs = 16 / kBits.high;
      const int to = place + kBits.low;
      v = and_or(shifted(c.high.w[pair / kHighPairs], to - pair % kHighPairs * kBits.high),
                 mask(kBits.high) << to, v);
    }
    return half2_fma(v, static_cast<uint32_t>(15 - place) * 0x04000400u,
                     zero_point.minus[place / kBits.low][pair % 2]);
  }
}

// Scales of rows g and g + 8 of a group as they lie, and their zeros, a byte each.
struct GroupOfLane {
  uint32_t scales[2];
  uint32_t zeros;
};
PITH_BOTH constexpr int scale_bytes(Scales type) {
  return type == Scales::kNone ? 0 : type == Scales::kF32 ? 4 : type == Scales::kTwoLevels ? 1 : 2;
}
// `scales`: those of the two rows, side by side.
PITH_DEVICE void load_raw_scales(Scales type, const void* scales, uint32_t* to) {
  if (type == Scales::kTwoLevels) {
    to[0] = load2(scales);
  } else if (type == Scales::kF32) {
    const Bytes8 v = load8(scales);
    to[0] = v.w[0];
    to[1] = v.w[1];
  } else if (type != Scales::kNone) {
    to[0] = load4(scales);
  }
}
// `of_rows` are the scales of the rows where there are two levels.
PITH_DEVICE void scales_of(Scales type, const uint32_t* raw, const float* of_rows, float* to) {
  if (type == Scales::kF16) {
    to[0] = half_float(static_cast<uint16_t>(raw[0]));
    to[1] = half_float(static_cast<uint16_t>(raw[0] >> 16));
  } else if (type == Scales::kBF16) {
    to[0] = bits_float(raw[0] << 16);
    to[1] = bits_float(raw[0] & 0xffff0000u);
  } else if (type == Scales::kTwoLevels) {
    to[0] = of_rows[0] * static_cast<float>(static_cast<int8_t>(raw[0]));
    to[1] = of_rows[1] * static_cast<float>(static_cast<int8_t>(raw[0] >> 8));
  } else {
    to[0] = type == Scales::kF32 ? bits_float(raw[0]) : 1.0f;
    to[1] = type == Scales::kF32 ? bits_float(raw[1]) : 1.0f;
  }
}

// Where scales and zeros of a lane lie.
struct GroupsOfLane {
  Scales type;
  int32_t zero;
  bool whole_row;
  const unsigned char* scales;
  const uint8_t* zeros;
  const float* of_rows;  // scales of the two rows, where there are two levels

  PITH_MEMBER GroupsOfLane(const TileWeight& w, int64_t tile, int row)
      : type(w.scale_type),
        zero(w.zero * 0x101),
        whole_row(w.group_shift == kWholeRow),
        scales(static_cast<const unsigned char*>(w.scales) +
               (tile * w.groups * 8 + row) * 2 * scale_bytes(w.scale_type)),
        zeros(w.zeros ? w.zeros + (tile * w.groups * 8 + row) * 2 : nullptr),
        of_rows(w.row_scales ? w.row_scales + (tile * 8 + row) * 2 : nullptr) {}

  // Those of a stage, of which there are kGroups.
  template <int kGroups>
  PITH_MEMBER void load(int32_t stage, GroupOfLane* to) const {
    const int64_t first = kGroups == 1 && whole_row ? 0 : int64_t{stage} * kGroups;
    if (type == Scales::kF16 || type == Scales::kBF16) {
#pragma unroll
      for (int i = 0; i < kGroups; ++i) to[i].scales[0] = load4(scales + (first + i) * 32);
    } else if (type == Scales::kTwoLevels) {
#pragma unroll
      for (int i = 0; i < kGroups; ++i) to[i].scales[0] = load2(scales + (first + i) * 16);
    } else if (kGroups == 1 && type == Scales::kF32) {
      const Bytes8 v = load8(scales + first * 64);
      to->scales[0] = v.w[0];
      to->scales[1] = v.w[1];
    }
#pragma unroll
    for (int i = 0; i < kGroups; ++i)
      to[i].zeros = zeros ? load2(zeros + (first + i) * 16) : static_cast<uint32_t>(zero);
  }
};

// Scales of rows r and r + 8 of one group.
PITH_DEVICE void load_scales(const TileWeight& w, int64_t tile, int64_t group, int row, float* to) {
  const int64_t at = ((tile * w.groups + group) * 8 + row) * 2;
  const auto* const scales =
      static_cast<const unsigned char*>(w.scales) + at * scale_bytes(w.scale_type);
  uint32_t raw[2] = {};
  load_raw_scales(w.scale_type, scales, raw);
  scales_of(w.scale_type, raw, w.row_scales ? w.row_scales + (tile * 8 + row) * 2 : nullptr, to);
}

}  // namespace
}  // namespace pith::cuda
