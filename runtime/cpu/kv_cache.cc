#include "runtime/cpu/kv_cache.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/bytes.h"
#include "core/dtype.h"

namespace pith {
namespace {

constexpr int64_t kGroup = 32;  // of int4
constexpr float kMiddle = 128;  // of int8
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Layout {
  CodeKind kind;
  int bits;
  bool row_scale;  // one f32 a row
  bool rotated_keys;
};
constexpr Layout kLayouts[] = {
    {CodeKind::kF32, 32, false, false},  {CodeKind::kF16, 16, false, false},
    {CodeKind::kBF16, 16, false, false}, {CodeKind::kInt8, 8, true, true},
    {CodeKind::kF8E4M3, 8, true, false}, {CodeKind::kInt4, 4, false, true},
};
const Layout& layout(KvType type) { return kLayouts[static_cast<size_t>(type)]; }

int64_t int4_bytes(int64_t n) { return ceil_div(n, 8) * 4; }

// The largest magnitude, NaN where a number is not finite.
float absmax_of(const float* x, int64_t n) {
  float largest = 0, sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    largest = std::max(largest, std::fabs(x[i]));
    sum += x[i] * 0;  // NaN for infinities too
  }
  return sum == 0 ? largest : kNan;
}

// To the nearest integer, ties to even, for magnitudes below 2^22.
float round_small(float x) {
  constexpr float kShift = 12582912;
  return (x + kShift) - kShift;
}

// The scale that puts the largest magnitude on `top`; NaN stays, and next to nothing is 0.
float scale_of(const float* x, int64_t n, float top) {
  const float scale = absmax_of(x, n) / top;
  return scale < 1e-37f ? 0 : scale;  // below, its inverse would be infinite
}

float encode_int8(const float* x, int64_t n, uint8_t* codes) {
  const float scale = scale_of(x, n, 127);
  const float inverse = 1 / scale;
  for (int64_t i = 0; i < n; ++i) {
    const float q = scale > 0 ? std::clamp(round_small(x[i] * inverse), -127.0f, 127.0f) : 0;
    codes[i] = static_cast<uint8_t>(static_cast<int>(q + kMiddle));
  }
  return scale;
}

float encode_fp8(const float* x, int64_t n, uint8_t* codes) {
  const float scale = scale_of(x, n, 448);
  const float inverse = 1 / scale;
  for (int64_t i = 0; i < n; ++i) codes[i] = scale > 0 ? f32_to_f8e4m3(x[i] * inverse) : 0;
  return scale;
}

// A step is not smaller than what the minimum is rounded by: finer ones would gain nothing, and
// m / s stays so small that m + s q may be computed as s (q + m / s).
void encode_int4(const float* x, int64_t n, uint8_t* codes, uint16_t* scale, uint16_t* minimum) {
  std::fill(codes, codes + int4_bytes(n), uint8_t{0});
  const auto [low, high] = std::minmax_element(x, x + n);
  const float top = std::max(std::fabs(*low), std::fabs(*high));
  const float step = std::max({(*high - *low) / 15, top * 0x1p-11f, 0x1p-24f});
  *minimum = f32_to_f16(*low);
  *scale = top == 0 ? 0 : f32_to_f16(step);
  const float m = f16_to_f32(*minimum), s = f16_to_f32(*scale);
  if (!std::isfinite(absmax_of(x, n)) || !std::isfinite(m) || !std::isfinite(s)) {
    *minimum = *scale = f32_to_f16(kNan);
    return;
  }
  if (s == 0) return;
  for (int64_t i = 0; i < n; ++i) {
    const float q = std::clamp(round_small((x[i] - m) / s), 0.0f, 15.0f);
    codes[i / 2] = static_cast<uint8_t>(codes[i / 2] | static_cast<int>(q) << (i % 2 * 4));
  }
}

}  // namespace

void rotate_head(float* x, int64_t n) {
  const int64_t block = n & -n;
  const float factor = 1 / std::sqrt(static_cast<float>(block));
  for (int64_t begin = 0; begin < n; begin += block) {
    for (int64_t half = 1; half < block; half *= 2) {
      for (int64_t pair = begin; pair < begin + block; pair += 2 * half) {
        for (int64_t i = pair; i < pair + half; ++i) {
          const float a = x[i], b = x[i + half];
          x[i] = a + b;
          x[i + half] = a - b;
        }
      }
    }
  }
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

KvPlane::KvPlane(KvType type, bool keys, int slots, int64_t kv_heads, int64_t length,
                 int64_t head_dim)
    : type_(type),
      rotated_(keys && layout(type).rotated_keys),
      kv_heads_(kv_heads),
      length_(length),
      head_dim_(head_dim),
      groups_(ceil_div(head_dim, kGroup)),
      row_bytes_(type == KvType::kInt4 ? int4_bytes(head_dim) : head_dim * layout(type).bits / 8) {
  const int64_t rows = slots * kv_heads * length;
  codes_ = Buffer<std::byte>(rows * row_bytes_);
  if (layout(type).row_scale) scales_ = Buffer<float>(rows);
  if (type == KvType::kInt4) {
    group_scales_ = Buffer<uint16_t>(rows * groups_);
    group_minima_ = Buffer<uint16_t>(rows * groups_);
  }
}

uint64_t KvPlane::bytes() const {
  return codes_.span().size_bytes() + scales_.span().size_bytes() +
         group_scales_.span().size_bytes() + group_minima_.span().size_bytes();
}

void KvPlane::write(const CpuKernels& kernels, int64_t row, const float* x) {
  thread_local Buffer<float> turned;
  if (rotated_) {
    turned.require(head_dim_);
    std::copy_n(x, head_dim_, turned.data());
    rotate_head(turned.data(), head_dim_);
    x = turned.data();
  }
  std::byte* to = codes_.data() + row * row_bytes_;
  auto* bytes = reinterpret_cast<uint8_t*>(to);
  switch (type_) {
    case KvType::kF32:
      std::memcpy(to, x, static_cast<size_t>(row_bytes_));
      break;
    case KvType::kF16:
      kernels.f32_to_f16(x, head_dim_, reinterpret_cast<uint16_t*>(to));
      break;
    case KvType::kBF16:
      from_f32(DType::kBF16, x, to, static_cast<size_t>(head_dim_));
      break;
    case KvType::kInt8:
      scales_[row] = encode_int8(x, head_dim_, bytes);
      break;
    case KvType::kFp8:
      scales_[row] = encode_fp8(x, head_dim_, bytes);
      break;
    case KvType::kInt4:
      for (int64_t g = 0; g < groups_; ++g) {
        const int64_t at = row * groups_ + g, begin = g * kGroup;
        encode_int4(x + begin, std::min(kGroup, head_dim_ - begin), bytes + begin / 2,
                    &group_scales_[at], &group_minima_[at]);
      }
      break;
  }
}

CodeKind KvPlane::kind() const { return layout(type_).kind; }

void KvPlane::code_rows(const CpuKernels& kernels, int64_t row, int64_t count, KvScratch& scratch,
                        CodeRow* out) const {
  const float* scales = nullptr;
  const float* zeros = nullptr;
  if (layout(type_).row_scale) scales = scales_.data() + row;
  if (type_ == KvType::kInt4) {
    const int64_t n = count * groups_;
    scratch.scales.require(n);
    scratch.zeros.require(n);
    kernels.f16_to_f32(group_scales_.data() + row * groups_, n, scratch.scales.data());
    kernels.f16_to_f32(group_minima_.data() + row * groups_, n, scratch.zeros.data());
    for (int64_t i = 0; i < n; ++i) {
      const float s = scratch.scales[i];
      scratch.zeros[i] = s > 0 ? -scratch.zeros[i] / s : 0;
    }
    scales = scratch.scales.data();
    zeros = scratch.zeros.data();
  }
  const bool int4 = type_ == KvType::kInt4;
  const int64_t step = int4 ? groups_ : 1;
  for (int64_t i = 0; i < count; ++i) {
    out[i] = {codes(row + i), scales ? scales + i * step : nullptr,
              int4                     ? zeros + i * step
              : type_ == KvType::kInt8 ? &kMiddle
                                       : nullptr,
              int4 ? kGroup : head_dim_};
  }
}

const float* KvPlane::read(const CpuKernels& kernels, int64_t row, int64_t count,
                           KvScratch& scratch) const {
  if (type_ == KvType::kF32) return reinterpret_cast<const float*>(codes(row));
  scratch.rows.require(count * head_dim_);
  if (type_ == KvType::kF16) {
    kernels.f16_to_f32(reinterpret_cast<const uint16_t*>(codes(row)), count * head_dim_,
                       scratch.rows.data());
    return scratch.rows.data();
  }
  constexpr int64_t kPiece = 64;
  const auto decode = kernels.decode[static_cast<size_t>(kind())];
  for (int64_t begin = 0; begin < count; begin += kPiece) {
    const int64_t n = std::min(kPiece, count - begin);
    CodeRow rows[kPiece];
    code_rows(kernels, row + begin, n, scratch, rows);
    for (int64_t i = 0; i < n; ++i)
      decode(rows[i], head_dim_, scratch.rows.data() + (begin + i) * head_dim_);
  }
  return scratch.rows.data();
}

CpuKvCache::CpuKvCache(const proto::ModelSpec& spec, int slots, int64_t length, KvTypes types)
    : slots_(slots), length_(length) {
  for (const auto& layer : spec.layers()) {
    for (const auto& s : layer.sublayers()) {
      if (!s.has_attention()) continue;
      const int64_t kv_heads = s.attention().kv_heads(), d = s.attention().head_dim();
      layers_.push_back({KvPlane(types.keys, true, slots, kv_heads, length, d),
                         KvPlane(types.values, false, slots, kv_heads, length, d)});
    }
  }
}

uint64_t CpuKvCache::bytes() const {
  uint64_t total = 0;
  for (const auto& l : layers_) total += l.keys.bytes() + l.values.bytes();
  return total;
}

}  // namespace pith
