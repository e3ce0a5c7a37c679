#include "runtime/cpu/matmul.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <set>

#include "core/bytes.h"
#include "core/error.h"
#include "core/parallel.h"
#include "formats/encodings/int_group.h"

namespace pith {
namespace {

std::mutex notes_mutex;
std::set<std::string> notes;

void note_fallback(const Encoding& e) {
  const std::lock_guard lock(notes_mutex);
  notes.insert(to_string(e));
}

// Per thread, kept between calls: scales and zeros of up to four rows.
struct RowScratch {
  std::vector<float> scales[4], zeros[4], middle;
  std::vector<uint8_t> codes;
  Buffer<float> decoded, panel;
};
RowScratch& row_scratch() {
  thread_local RowScratch scratch;
  return scratch;
}

// Finds rows of a weight for the kernels.
class RowReader {
 public:
  RowReader(const CpuKernels& kernels, const Weight& w)
      : kernels_(kernels), w_(w), codes_(w.plane(PlaneKind::kCodes).data()) {
    const Encoding& e = w.encoding;
    if (e.kind == EncodingKind::kInt || e.kind == EncodingKind::kNf4) {
      layout_ = GroupLayout(e, w.n, w.k);
      row_bytes_ = layout_.code_row_bytes;
    } else {
      row_bytes_ = static_cast<uint64_t>(w.k) * info(e.dtype).bytes;
    }
  }

  CodeRow row(int64_t r, RowScratch& scratch, int slot) const {
    CodeRow out{codes_ + static_cast<uint64_t>(r) * row_bytes_, nullptr, nullptr, w_.k};
    const Encoding& e = w_.encoding;
    if (e.kind == EncodingKind::kDense) return out;
    auto& scales = scratch.scales[slot];
    if (e.kind == EncodingKind::kFp8) {
      fp8_scales(r, &scales);
      if (e.area == ScaleArea::kBlock128) out.group = 128;
    } else {
      scales.resize(static_cast<size_t>(layout_.groups));
      if (e.scale == DType::kF16 && !e.two_level) {
        const auto* halves = reinterpret_cast<const uint16_t*>(w_.plane(PlaneKind::kScales).data());
        kernels_.f16_to_f32(halves + r * layout_.groups, layout_.groups, scales.data());
      } else {
        load_scales(w_, layout_, r, scales.data());
      }
      out.group = layout_.group;
      if (e.kind == EncodingKind::kInt) load_zeros_f32(r, scratch, slot, &out);
    }
    out.scales = scales.data();
    return out;
  }

 private:
  void fp8_scales(int64_t r, std::vector<float>* scales) const {
    int64_t count = 1, first = 0;
    if (w_.encoding.area == ScaleArea::kRow) first = r;
    if (w_.encoding.area == ScaleArea::kBlock128) {
      count = ceil_div(w_.k, 128);
      first = r / 128 * count;
    }
    scales->resize(static_cast<size_t>(count));
    std::memcpy(scales->data(), w_.plane(PlaneKind::kScales).data() + first * 4,
                static_cast<size_t>(count) * 4);
  }
  void load_zeros_f32(int64_t r, RowScratch& scratch, int slot, CodeRow* out) const {
    const auto groups = static_cast<size_t>(layout_.groups);
    if (w_.encoding.symmetric) {  // the same number for all: filled once for a layer
      const auto middle = static_cast<float>(1 << (layout_.bits - 1));
      if (scratch.middle.size() < groups || scratch.middle[0] != middle)
        scratch.middle.assign(groups, middle);
      out->zeros = scratch.middle.data();
      return;
    }
    auto& zeros = scratch.zeros[slot];
    scratch.codes.resize(round_up(groups, 16));
    load_zeros(w_, layout_, r, scratch.codes.data());
    zeros.assign(scratch.codes.begin(), scratch.codes.begin() + layout_.groups);
    out->zeros = zeros.data();
  }

  const CpuKernels& kernels_;
  const Weight& w_;
  const std::byte* codes_;
  uint64_t row_bytes_;
  GroupLayout layout_{Encoding::integer(4, 0), 1, 1};
};

void decode_tile(const CpuKernels& kernels, const Weight& w, CodeKind kind, int64_t row,
                 int64_t rows, float* out) {
  if (kind == CodeKind::kCount) return decode_rows(w, row, rows, out);
  const RowReader reader(kernels, w);
  for (int64_t r = 0; r < rows; ++r) {
    kernels.decode[static_cast<size_t>(kind)](reader.row(row + r, row_scratch(), 0), w.k,
                                              out + r * w.k);
  }
}

// Rows of w against few rows of x: products straight from the codes.
void multiply_rows(const CpuKernels& kernels, const Weight& w, CodeKind kind, const float* x,
                   int64_t x_stride, int64_t m, int64_t begin, int64_t end, float* y, bool add) {
  RowScratch& scratch = row_scratch();
  const bool reference = kind == CodeKind::kCount;
  const RowReader reader(kernels, w);
  for (int64_t r = begin; r < end; r += 4) {
    const int count = static_cast<int>(std::min<int64_t>(4, end - r));
    CodeRow rows[4];
    if (reference) {
      scratch.decoded.require(4 * w.k);
      decode_rows(w, r, count, scratch.decoded.data());
    }
    for (int i = 0; i < count; ++i) {
      rows[i] = reference ? CodeRow{scratch.decoded.data() + i * w.k, nullptr, nullptr, w.k}
                          : reader.row(r + i, scratch, i);
    }
    const auto dot = kernels.dot[static_cast<size_t>(reference ? CodeKind::kF32 : kind)];
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

// 32 rows of w against many rows of x: decoded once, in pieces of k that fit the cache.
void multiply_panel(const CpuKernels& kernels, const Weight& w, CodeKind kind, const float* x,
                    int64_t m, int64_t begin, int64_t rows, float* y, bool add) {
  RowScratch& scratch = row_scratch();
  scratch.decoded.require(32 * w.k);
  scratch.panel.require(32 * w.k);
  decode_tile(kernels, w, kind, begin, rows, scratch.decoded.data());
  kernels.panel(scratch.decoded.data(), rows, w.k, w.k, scratch.panel.data());
  constexpr int64_t kDepth = 512;  // 64 KiB of panel at a time
  for (int64_t p = 0; p < w.k; p += kDepth) {
    const int64_t depth = std::min(kDepth, w.k - p);
    kernels.gemm(m, rows, depth, x + p, w.k, scratch.panel.data() + p * 32, 32, y + begin, w.n,
                 add || p > 0);
  }
}

}  // namespace

CodeKind code_kind(const Encoding& e) {
  switch (e.kind) {
    case EncodingKind::kDense:
      if (e.dtype == DType::kF32) return CodeKind::kF32;
      if (e.dtype == DType::kF16) return CodeKind::kF16;
      if (e.dtype == DType::kBF16) return CodeKind::kBF16;
      return CodeKind::kCount;
    case EncodingKind::kInt:
      switch (e.bits) {
        case 2:
          return CodeKind::kInt2;
        case 3:
          return CodeKind::kInt3;
        case 4:
          return CodeKind::kInt4;
        case 5:
          return CodeKind::kInt5;
        case 6:
          return CodeKind::kInt6;
        default:
          return CodeKind::kInt8;
      }
    case EncodingKind::kNf4:
      return CodeKind::kNf4;
    case EncodingKind::kFp8:
      return e.dtype == DType::kF8E4M3 ? CodeKind::kF8E4M3 : CodeKind::kF8E5M2;
    default:
      return CodeKind::kCount;
  }
}

void decode_with_kernels(const CpuKernels& kernels, const Weight& w, int64_t row, int64_t rows,
                         float* out) {
  decode_tile(kernels, w, code_kind(w.encoding), row, rows, out);
}

void matmul(const CpuKernels& kernels, const Weight& w, const float* x, int64_t m, float* y,
            bool add, MatmulScratch& scratch) {
  const CodeKind kind = code_kind(w.encoding);
  if (kind == CodeKind::kCount) note_fallback(w.encoding);
  if (m >= kPanelRows) {
    parallel_ranges(w.n, 32, [&](int64_t begin, int64_t end) {
      multiply_panel(kernels, w, kind, x, m, begin, end - begin, y, add);
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
  // Tiles of some 16 K weights: small enough that a descheduled thread holds little.
  const int64_t grain = std::max<int64_t>(4, (1 << 15) / std::max<int64_t>(1, w.k) / 4 * 4);
  parallel_ranges(w.n, grain, [&](int64_t begin, int64_t end) {
    multiply_rows(kernels, w, kind, x, stride, m, begin, end, y, add);
  });
}

void matmul(const CpuKernels& kernels, const Weight& w, RoundedInputs& x, float* y, bool add,
            MatmulScratch& scratch) {
  if (x.encoding().dtype == DType::kI8 && has_int_matmul(w.encoding))
    return int_matmul(kernels, w, x, y, add, scratch.ints);
  matmul(kernels, w, x.values(), x.m(), y, add, scratch);
}

std::vector<std::string> fallback_notes() {
  const std::lock_guard lock(notes_mutex);
  return {notes.begin(), notes.end()};
}

}  // namespace pith
