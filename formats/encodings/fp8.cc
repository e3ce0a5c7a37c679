#include "formats/encodings/fp8.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/bytes.h"
#include "core/error.h"
#include "formats/encodings/names.h"

namespace pith {
namespace {

constexpr int64_t kBlock = 128;
constexpr const char* kAreaNames[] = {"tensor", "row", "128x128"};

std::string format(const Encoding& e) {
  return fmt::format("{}-{}", e.dtype == DType::kF8E4M3 ? "fp8e4m3" : "fp8e5m2",
                     kAreaNames[static_cast<size_t>(e.area)]);
}

bool parse(std::string_view name, Encoding* to) {
  const auto parts = split_name(name);
  const bool e4m3 = parts[0] == "fp8e4m3" || parts[0] == "fp8";
  if ((!e4m3 && parts[0] != "fp8e5m2") || parts.size() > 2) return false;
  *to = Encoding::fp8(e4m3 ? DType::kF8E4M3 : DType::kF8E5M2, ScaleArea::kRow);
  if (parts.size() == 1) return true;
  for (size_t a = 0; a < std::size(kAreaNames); ++a) {
    if (parts[1] == kAreaNames[a]) {
      to->area = static_cast<ScaleArea>(a);
      return true;
    }
  }
  return false;
}

void check(const Encoding& e) {
  if (e.dtype != DType::kF8E4M3 && e.dtype != DType::kF8E5M2) {
    fail(ErrorKind::kUsage, "fp8 is f8e4m3 or f8e5m2, not {}", info(e.dtype).name);
  }
}

std::vector<PlaneLayout> planes(const Encoding& e, int64_t n, int64_t k) {
  const auto un = static_cast<uint64_t>(n), uk = static_cast<uint64_t>(k);
  PlaneLayout scales{PlaneKind::kScales, 4, std::max<int64_t>(n, 1), 4};
  if (e.area == ScaleArea::kRow)
    scales = {PlaneKind::kScales, checked_mul(un, 4, "plane size"), 1, 4};
  if (e.area == ScaleArea::kBlock128) {
    const auto row_bytes = static_cast<uint64_t>(ceil_div(k, kBlock)) * 4;
    scales = {PlaneKind::kScales, static_cast<uint64_t>(ceil_div(n, kBlock)) * row_bytes, kBlock,
              row_bytes};
  }
  return {{PlaneKind::kCodes, checked_mul(un, uk, "plane size"), 1, uk}, scales};
}

float scale_at(const Weight& w, int64_t row, int64_t column) {
  float s;
  std::memcpy(
      &s, w.plane(PlaneKind::kScales).data() + fp8_scale_index(w.encoding, w.k, row, column) * 4,
      4);
  return s;
}

void encode(const Encoding& e, int64_t, int64_t k, int64_t row, int64_t rows, const float* w,
            float tensor_absmax, MutablePlanes to) {
  require_finite(row, rows, k, w);
  const bool e4m3 = e.dtype == DType::kF8E4M3;
  auto* codes = find_plane(to, PlaneKind::kCodes).data() + row * k;
  auto* scales = find_plane(to, PlaneKind::kScales).data();
  const int64_t area_rows = e.area == ScaleArea::kBlock128 ? kBlock : 1;
  const int64_t area_columns = e.area == ScaleArea::kBlock128 ? kBlock : std::max<int64_t>(k, 1);
  for (int64_t r0 = 0; r0 < rows; r0 += area_rows) {
    for (int64_t c0 = 0; c0 < k; c0 += area_columns) {
      const int64_t r1 = std::min(rows, r0 + area_rows), c1 = std::min(k, c0 + area_columns);
      float absmax = 0;
      for (int64_t r = r0; r < r1; ++r) {
        for (int64_t c = c0; c < c1; ++c) absmax = std::max(absmax, std::fabs(w[r * k + c]));
      }
      if (e.area == ScaleArea::kTensor) absmax = tensor_absmax;
      const float s = fp8_scale(e, absmax, row + r0), inverse = s != 0 ? 1 / s : 0;
      if (e.area != ScaleArea::kTensor || row + r0 == 0)
        std::memcpy(scales + fp8_scale_index(e, k, row + r0, c0) * 4, &s, 4);
      for (int64_t r = r0; r < r1; ++r) {
        for (int64_t c = c0; c < c1; ++c) {
          const float v = w[r * k + c] * inverse;
          codes[r * k + c] = static_cast<std::byte>(e4m3 ? f32_to_f8e4m3(v) : f32_to_f8e5m2(v));
        }
      }
    }
  }
}

void decode(const Weight& w, int64_t row, int64_t rows, float* out) {
  const auto* codes = w.plane(PlaneKind::kCodes).data();
  const int64_t step = w.encoding.area == ScaleArea::kBlock128 ? kBlock : std::max<int64_t>(w.k, 1);
  for (int64_t r = 0; r < rows; ++r) {
    float* y = out + r * w.k;
    to_f32(w.encoding.dtype, codes + (row + r) * w.k, y, static_cast<size_t>(w.k));
    for (int64_t c0 = 0; c0 < w.k; c0 += step) {
      const float s = scale_at(w, row + r, c0);
      for (int64_t c = c0; c < std::min(w.k, c0 + step); ++c) y[c] *= s;
    }
  }
}

}  // namespace

float fp8_scale(const Encoding& e, float absmax, int64_t row) {
  const float s = absmax / (e.dtype == DType::kF8E4M3 ? 448.0f : 57344.0f);
  if (!std::isfinite(s)) fail(ErrorKind::kNumeric, "row {}: a scale of {} is not finite", row, s);
  return s < 0x1p-126f ? 0 : s;  // an area of (almost) zeros is an area of zeros
}

int64_t fp8_scale_index(const Encoding& e, int64_t k, int64_t row, int64_t column) {
  switch (e.area) {
    case ScaleArea::kTensor:
      return 0;
    case ScaleArea::kRow:
      return row;
    case ScaleArea::kBlock128:
      break;
  }
  return row / kBlock * ceil_div(k, kBlock) + column / kBlock;
}

const EncodingOps kFp8Ops = {
    EncodingKind::kFp8, "fp8", format, parse, check, planes, encode, decode};

}  // namespace pith
