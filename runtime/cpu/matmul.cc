#include "runtime/cpu/matmul.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "core/bytes.h"
#include "core/error.h"
#include "core/parallel.h"
#include "runtime/cpu/decode.h"
#include "runtime/cpu/group_tiles.h"

namespace pith {
namespace {

// Per thread, kept between calls: scales of up to four rows, or of a tile of 16.
struct RowScratch {
  std::vector<float> scales[4];
  Buffer<float> tile_scales, tile_zeros, decoded, panel;
  Buffer<int32_t> integers;
};
RowScratch& row_scratch() {
  thread_local RowScratch scratch;
  return scratch;
}

// A row of dense or fp8 for the kernels.
CodeRow code_row(const Weight& w, int64_t r, RowScratch& scratch, int slot) {
  const Encoding& e = w.encoding;
  const uint64_t row_bytes = static_cast<uint64_t>(w.k) * info(e.dtype).bytes;
  CodeRow out{w.plane(PlaneKind::kCodes).data() + static_cast<uint64_t>(r) * row_bytes, nullptr,
              nullptr, w.k};
  if (e.kind == EncodingKind::kDense) return out;
  int64_t count = 1, first = 0;
  if (e.area == ScaleArea::kRow) first = r;
  if (e.area == ScaleArea::kBlock128) {
    out.group = 128;
    count = ceil_div(w.k, 128);
    first = r / 128 * count;
  }
  auto& scales = scratch.scales[slot];
  scales.resize(static_cast<size_t>(count));
  std::memcpy(scales.data(), w.plane(PlaneKind::kScales).data() + first * 4,
              static_cast<size_t>(count) * 4);
  out.scales = scales.data();
  return out;
}

GroupTile group_tile(const GroupTiles& tiles, const Encoding& e, int64_t tile,
                     RowScratch& scratch) {
  const int64_t count = 16 * tiles.layout().groups;
  scratch.tile_scales.require(count);
  tiles.scales(tile, scratch.tile_scales.data());
  GroupTile out{tiles.format(), tiles.codes(tile), scratch.tile_scales.data(), nullptr,
                tiles.layout().group};
  if (e.kind != EncodingKind::kInt) return out;
  scratch.integers.require(count);
  scratch.tile_zeros.require(count);
  tiles.zeros(tile, scratch.integers.data());
  std::copy_n(scratch.integers.data(), count, scratch.tile_zeros.data());
  out.zeros = scratch.tile_zeros.data();
  return out;
}

// The panel [k, 32] of up to 32 rows of w from `row` on, a multiple of 16 where w is in groups;
// what stands for rows that are missing is finite.
void make_panel(const CpuKernels& kernels, const Weight& w, int64_t row, int64_t rows,
                RowScratch& scratch) {
  scratch.panel.require(32 * w.k);
  float* const panel = scratch.panel.data();
  if (in_groups(w.encoding)) {
    const GroupTiles tiles(kernels, w);
    for (int64_t slot = 0; slot < rows; slot += 16) {
      const GroupTile tile = group_tile(tiles, w.encoding, (row + slot) / 16, scratch);
      kernels.dequantize_tile(tile, w.k, panel + slot);
    }
    return;
  }
  scratch.decoded.require(32 * w.k);
  decode_rows(kernels, w, row, rows, scratch.decoded.data());
  kernels.transpose_panel(scratch.decoded.data(), rows, w.k, w.k, panel);
}

// Rows of w against few rows of x: products straight from the codes. The place of dense rows is
// looked up once: those of a second factor are as short as its rank.
void multiply_rows(const CpuKernels& kernels, const Weight& w, std::optional<NumberFormat> format,
                   const float* x, int64_t x_stride, int64_t m, int64_t begin, int64_t end,
                   float* y, bool add) {
  RowScratch& scratch = row_scratch();
  const std::byte* const dense = format && w.encoding.kind == EncodingKind::kDense
                                     ? w.plane(PlaneKind::kCodes).data()
                                     : nullptr;
  const uint64_t row_bytes =
      dense != nullptr ? static_cast<uint64_t>(w.k) * info(w.encoding.dtype).bytes : 0;
  const auto dot = kernels.dot[static_cast<size_t>(format.value_or(NumberFormat::kF32))];
  for (int64_t r = begin; r < end; r += 4) {
    const int count = static_cast<int>(std::min<int64_t>(4, end - r));
    CodeRow rows[4];
    if (!format) {
      scratch.decoded.require(4 * w.k);
      reference_decode(w, r, count, scratch.decoded.data());
    }
    for (int i = 0; i < count; ++i) {
      if (dense != nullptr) {
        rows[i] = {dense + static_cast<uint64_t>(r + i) * row_bytes, nullptr, nullptr, w.k};
      } else {
        rows[i] = format ? code_row(w, r + i, scratch, i)
                         : CodeRow{scratch.decoded.data() + i * w.k, nullptr, nullptr, w.k};
      }
    }
    for (int64_t t = 0; t < m; ++t) {
      float products[4];
      dot(rows, count, w.k, x + t * x_stride, products);
      for (int i = 0; i < count; ++i) {
        float& to = y[t * w.n + r + i];
        to = add ? to + products[i] : products[i];
      }
    }
  }
}

void multiply_tiles(const CpuKernels& kernels, const Weight& w, const float* x, int64_t m,
                    int64_t begin, int64_t end, float* y, bool add) {
  const GroupTiles tiles(kernels, w);
  for (int64_t r = begin; r < end; r += 16) {
    const GroupTile tile = group_tile(tiles, w.encoding, r / 16, row_scratch());
    kernels.quant_gemv(tile, w.k, x, w.k, m, y + r, w.n, std::min<int64_t>(16, end - r), add);
  }
}

// 32 rows of w against many rows of x: decoded once, in pieces of k that fit the cache.
void multiply_panel(const CpuKernels& kernels, const Weight& w, const float* x, int64_t m,
                    int64_t begin, int64_t rows, float* y, bool add) {
  RowScratch& scratch = row_scratch();
  make_panel(kernels, w, begin, rows, scratch);
  constexpr int64_t kDepth = 512;  // 64 KiB of panel at a time
  for (int64_t p = 0; p < w.k; p += kDepth) {
    const int64_t depth = std::min(kDepth, w.k - p);
    kernels.gemm(m, rows, depth, x + p, w.k, scratch.panel.data() + p * 32, 32, y + begin, w.n,
                 add || p > 0);
  }
}

}  // namespace

std::optional<NumberFormat> row_format(const Encoding& e) {
  const auto format = number_format(e);
  return format && static_cast<int>(*format) < kRowFloats ? format : std::nullopt;
}

int64_t row_grain(int64_t n, int64_t k, int64_t unit) {
  const int64_t long_enough = (1 << 18) / std::max<int64_t>(1, k);
  const int64_t for_all = n / (4 * thread_count());
  return std::max<int64_t>(1, std::min(long_enough, for_all) / unit) * unit;
}

void decode_rows(const CpuKernels& kernels, const Weight& w, int64_t row, int64_t rows,
                 float* out) {
  RowScratch& scratch = row_scratch();
  if (in_groups(w.encoding) && row % 16 == 0) {
    for (int64_t first = 0; first < rows; first += 32) {
      const int64_t count = std::min<int64_t>(32, rows - first);
      make_panel(kernels, w, row + first, count, scratch);
      for (int64_t r = 0; r < count; ++r) {
        float* const to = out + (first + r) * w.k;
        for (int64_t i = 0; i < w.k; ++i) to[i] = scratch.panel[32 * i + r];
      }
    }
    return;
  }
  const auto format = row_format(w.encoding);
  if (!format) return reference_decode(w, row, rows, out);
  for (int64_t r = 0; r < rows; ++r) {
    kernels.decode[static_cast<size_t>(*format)](code_row(w, row + r, scratch, 0), w.k,
                                                 out + r * w.k);
  }
}

void matmul(const CpuKernels& kernels, const Weight& w, const float* x, int64_t m, float* y,
            bool add, MatmulScratch& scratch) {
  const auto format = row_format(w.encoding);
  if (!format && !in_groups(w.encoding)) scratch.fallbacks.insert(to_string(w.encoding));
  if (m >= kPanelRows) {
    parallel_ranges(w.n, 32, [&](int64_t begin, int64_t end) {
      multiply_panel(kernels, w, x, m, begin, end - begin, y, add);
    });
    return;
  }
  if (in_groups(w.encoding)) {
    parallel_ranges(w.n, row_grain(w.n, w.k, 16), [&](int64_t begin, int64_t end) {
      multiply_tiles(kernels, w, x, m, begin, end, y, add);
    });
    return;
  }
  int64_t stride = w.k;
  if (w.k % 16 != 0) {  // the kernels read x in whole vectors
    stride = static_cast<int64_t>(round_up(static_cast<uint64_t>(w.k), 16));
    scratch.x.require(m * stride);
    std::fill(scratch.x.begin(), scratch.x.begin() + m * stride, 0.0f);
    for (int64_t t = 0; t < m; ++t)
      std::copy(x + t * w.k, x + (t + 1) * w.k, scratch.x.data() + t * stride);
    x = scratch.x.data();
  }
  parallel_ranges(w.n, row_grain(w.n, w.k, 4), [&](int64_t begin, int64_t end) {
    multiply_rows(kernels, w, format, x, stride, m, begin, end, y, add);
  });
}

void matmul(const CpuKernels& kernels, const Weight& w, RoundedInputs& x, float* y, bool add,
            MatmulScratch& scratch) {
  if (x.encoding().dtype == DType::kI8 && has_int_matmul(w.encoding))
    return int_matmul(kernels, x, {{{&w, y, add}}});
  matmul(kernels, w, x.values(), x.m(), y, add, scratch);
}

}  // namespace pith
