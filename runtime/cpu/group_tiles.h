// What the kernels need of a weight of integers, nf4 or mxfp4 in groups, tile by tile of 16 rows:
// where its codes are, its scales and zeros unpacked.
#pragma once

#include <cstdint>

#include "core/bytes.h"
#include "formats/encodings/int_group.h"
#include "formats/encodings/tcq_code.h"
#include "runtime/cpu/kernels.h"

namespace pith {

class GroupTiles {
 public:
  GroupTiles(const CpuKernels& kernels, const Weight& w)
      : kernels_(kernels),
        w_(w),
        layout_(w.encoding, w.n, w.k),
        format_(*number_format(w.encoding)),
        codes_(w.plane(PlaneKind::kCodes).data()),
        scales_(w.plane(PlaneKind::kScales).data()),
        zeros_(w.plane(PlaneKind::kZeros).data()),
        row_scales_(w.plane(PlaneKind::kRowScales).data()) {}

  const GroupLayout& layout() const { return layout_; }
  NumberFormat format() const { return format_; }
  int32_t zero() const {  // of all groups, where they have none of their own
    if (w_.encoding.kind == EncodingKind::kTcq) return kTcqZero;
    return w_.encoding.kind == EncodingKind::kMx ? kE2M1Zero : 1 << (layout_.bits - 1);
  }

  const uint8_t* codes(int64_t tile) const {
    return reinterpret_cast<const uint8_t*>(at(codes_, tile, layout_.code_tile_bytes));
  }
  // [groups, 16]; those of rows that are missing are 0. Of two levels: the factors of groups.
  void scales(int64_t tile, float* to) const;
  const int8_t* factors(int64_t tile) const {
    return reinterpret_cast<const int8_t*>(at(scales_, tile, layout_.scale_tile_bytes));
  }
  void row_scales(int64_t tile, float* to) const;  // [16]
  // [groups, 16]
  void zeros(int64_t tile, int32_t* to) const;

  // As they lie: f16 of one level, powers of two, units of zeros; null for others.
  const uint16_t* half_scales(int64_t tile) const {
    const bool halves = w_.encoding.scale == DType::kF16 && !w_.encoding.two_level;
    return halves ? reinterpret_cast<const uint16_t*>(at(scales_, tile, layout_.scale_tile_bytes))
                  : nullptr;
  }
  const uint8_t* powers(int64_t tile) const {
    return w_.encoding.kind == EncodingKind::kMx
               ? reinterpret_cast<const uint8_t*>(at(scales_, tile, layout_.scale_tile_bytes))
               : nullptr;
  }
  const uint8_t* packed_zeros(int64_t tile) const {
    return w_.encoding.symmetric
               ? nullptr
               : reinterpret_cast<const uint8_t*>(at(zeros_, tile, layout_.zero_tile_bytes));
  }

 private:
  static const std::byte* at(const std::byte* plane, int64_t tile, uint64_t bytes) {
    return plane + static_cast<uint64_t>(tile) * bytes;
  }

  const CpuKernels& kernels_;
  const Weight& w_;
  const GroupLayout layout_;
  const NumberFormat format_;
  const std::byte *codes_, *scales_, *zeros_, *row_scales_;
};

}  // namespace pith
