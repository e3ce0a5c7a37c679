#include "formats/encodings/encoding.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "core/buffer.h"
#include "core/bytes.h"
#include "core/error.h"
#include "core/parallel.h"
#include "formats/encodings/dense.h"
#include "formats/encodings/fp8.h"
#include "formats/encodings/ggml.h"
#include "formats/encodings/int_group.h"
#include "formats/encodings/sparse.h"

namespace pith {
namespace {

// By EncodingKind. A new encoding is a row here and a pair of files.
const EncodingOps* const kTable[] = {&kDenseOps, &kIntOps, &kNf4Ops,    &kFp8Ops,
                                     &kGgmlOps,  &kMxOps,  &kSparseOps, &kTcqOps};

}  // namespace

const EncodingOps& ops(EncodingKind kind) {
  const auto i = static_cast<size_t>(kind);
  if (i >= std::size(kTable)) fail(ErrorKind::kCorrupt, "encoding kind {} does not exist", i);
  return *kTable[i];
}
std::span<const EncodingOps* const> encoding_table() { return kTable; }

std::optional<NumberFormat> number_format(const Encoding& e) {
  switch (e.kind) {
    case EncodingKind::kDense:
      if (e.dtype == DType::kF32) return NumberFormat::kF32;
      if (e.dtype == DType::kF16) return NumberFormat::kF16;
      if (e.dtype == DType::kBF16) return NumberFormat::kBF16;
      return std::nullopt;
    case EncodingKind::kFp8:
      return e.dtype == DType::kF8E4M3 ? NumberFormat::kE4M3 : NumberFormat::kE5M2;
    case EncodingKind::kInt:
      return int_format(e.bits);
    case EncodingKind::kNf4:
      return NumberFormat::kNf4;
    case EncodingKind::kMx:
      return NumberFormat::kE2M1;
    case EncodingKind::kTcq:
      return e.bits == 2   ? NumberFormat::kTcq2
             : e.bits == 3 ? NumberFormat::kTcq3
                           : NumberFormat::kTcq4;
    case EncodingKind::kGgml:
    case EncodingKind::kSparse:
      break;
  }
  return std::nullopt;
}

const char* plane_name(PlaneKind kind) {
  switch (kind) {
    case PlaneKind::kCodes:
      return "codes";
    case PlaneKind::kScales:
      return "scales";
    case PlaneKind::kZeros:
      return "zeros";
    case PlaneKind::kRowScales:
      return "row scales";
    case PlaneKind::kIndices:
      return "indices";
  }
  return "unknown";
}

std::span<const std::byte> Weight::plane(PlaneKind kind) const {
  for (const auto& p : planes) {
    if (p.kind == kind) return p.bytes;
  }
  return {};
}
uint64_t Weight::bytes() const {
  uint64_t total = 0;
  for (const auto& p : planes) total += p.bytes.size();
  return total;
}
std::span<std::byte> find_plane(MutablePlanes planes, PlaneKind kind) {
  for (const auto& p : planes) {
    if (p.kind == kind) return p.bytes;
  }
  fail(ErrorKind::kUsage, "no plane of {}", plane_name(kind));
}

std::string to_string(const Encoding& e) { return ops(e.kind).format(e); }

Encoding parse_encoding(std::string_view name) {
  Encoding e;
  for (const auto* row : kTable) {
    if (row->parse(name, &e)) {
      row->check(e);
      return e;
    }
  }
  fail(ErrorKind::kUsage,
       "unknown encoding \"{}\": f32 f16 bf16, "
       "int{{2,3,4,5,6,8}}-{{g16,g32,g64,g128,row}}[-asym][-bf16][-s8], nf4-gN, mxfp4, "
       "tcq{{2,3,4}}-{{g32,g64,g128,row}}[-s8], "
       "fp8e4m3-{{tensor,row,128x128}}, fp8e5m2-..., and of each with -2:4, -N:M or -bitmapN",
       name);
}

std::vector<PlaneLayout> plane_layouts(const Encoding& e, int64_t n, int64_t k) {
  const auto& o = ops(e.kind);
  o.check(e);
  if (n < 0 || k < 0) fail(ErrorKind::kCorrupt, "a matrix of {} x {}", n, k);
  return o.planes(e, n, k);
}
uint64_t encoded_bytes(const Encoding& e, int64_t n, int64_t k) {
  uint64_t total = 0;
  for (const auto& p : plane_layouts(e, n, k)) total = checked_add(total, p.bytes, "weight size");
  return total;
}
bool can_encode(const Encoding& e) {
  return ops(e.kind).encode != nullptr &&
         (e.kind != EncodingKind::kDense || info(e.dtype).floating);
}

void require_finite(int64_t row, int64_t rows, int64_t k, const float* w) {
  for (int64_t r = 0; r < rows; ++r) {
    uint32_t bad = 0;  // not bool: the loop vectorizes
    for (int64_t i = 0; i < k; ++i)
      bad |= (std::bit_cast<uint32_t>(w[r * k + i]) & 0x7fffffffu) >= 0x7f800000u ? 1u : 0u;
    if (bad != 0) fail(ErrorKind::kNumeric, "row {}: a weight is not finite", row + r);
  }
}

int64_t row_unit(const Encoding& e, int64_t n, int64_t k) {
  int64_t unit = 1;
  for (const auto& p : plane_layouts(e, n, k)) unit = std::lcm(unit, p.unit_rows);
  return unit;
}

void reference_decode(const Weight& w, int64_t row, int64_t rows, float* out) {
  ops(w.encoding.kind).decode(w, row, rows, out);
}

OwnedWeight allocate_weight(const Encoding& e, int64_t n, int64_t k) {
  OwnedWeight out;
  auto buffers = std::make_shared<std::vector<Buffer<std::byte>>>();
  for (const auto& layout : plane_layouts(e, n, k)) {
    auto& b = buffers->emplace_back(static_cast<int64_t>(layout.bytes));
    out.planes.push_back({layout.kind, b.span()});
    out.weight.planes.push_back({layout.kind, b.span()});
  }
  out.weight.encoding = e;
  out.weight.n = n;
  out.weight.k = k;
  out.weight.owner = std::move(buffers);
  return out;
}

Weight encode(const Encoding& e, int64_t n, int64_t k, const float* w) {
  if (!can_encode(e)) fail(ErrorKind::kUnsupported, "nothing can be encoded as {}", to_string(e));
  OwnedWeight out = allocate_weight(e, n, k);
  float absmax = 0;
  if (e.area == ScaleArea::kTensor) {
    for (int64_t i = 0; i < n * k; ++i) absmax = std::max(absmax, std::fabs(w[i]));
  }
  const int64_t unit = row_unit(e, n, k);
  const int64_t grain = unit * std::max<int64_t>(1, (1 << 16) / std::max<int64_t>(1, unit * k));
  parallel_ranges(n, grain, [&](int64_t begin, int64_t end) {
    ops(e.kind).encode(e, n, k, begin, end - begin, w + begin * k, absmax, out.planes);
  });
  return std::move(out.weight);
}

}  // namespace pith
