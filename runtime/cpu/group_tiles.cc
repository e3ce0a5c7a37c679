#include "runtime/cpu/group_tiles.h"

#include <algorithm>

#include "core/dtype.h"

namespace pith {

void GroupTiles::scales(int64_t tile, float* to) const {
  const int64_t count = 16 * layout_.groups;
  const std::byte* from = at(scales_, tile, layout_.scale_tile_bytes);
  if (w_.encoding.kind == EncodingKind::kMx) {  // half of the stored scale, see kE2M1Zero
    kernels_.e8m0_to_f32(reinterpret_cast<const uint8_t*>(from), count, to);
  } else if (w_.encoding.two_level) {
    float rows[16];
    row_scales(tile, rows);
    for (int64_t i = 0; i < count; ++i)
      to[i] = rows[i % 16] * static_cast<float>(static_cast<int8_t>(from[i]));
  } else if (w_.encoding.scale == DType::kF16) {
    kernels_.f16_to_f32(reinterpret_cast<const uint16_t*>(from), count, to);
  } else {
    to_f32(w_.encoding.scale, from, to, static_cast<size_t>(count));
  }
}

void GroupTiles::row_scales(int64_t tile, float* to) const {
  const int64_t rows = std::min<int64_t>(16, w_.n - 16 * tile);
  std::fill(to + rows, to + 16, 0.0f);
  to_f32(w_.encoding.scale, row_scales_ + 32 * tile, to, static_cast<size_t>(rows));
}

void GroupTiles::zeros(int64_t tile, int32_t* to) const {
  if (w_.encoding.symmetric) {
    std::fill(to, to + 16 * layout_.groups, zero());
  } else {
    const std::byte* from = at(zeros_, tile, layout_.zero_tile_bytes);
    kernels_.unpack_zeros(format(), reinterpret_cast<const uint8_t*>(from), layout_.groups, to);
  }
}

}  // namespace pith
