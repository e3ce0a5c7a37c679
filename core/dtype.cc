#include "core/dtype.h"

#include <array>
#include <cmath>
#include <cstring>

#include "core/error.h"

namespace pith {
namespace {

constexpr DTypeInfo kTypes[] = {
    {DType::kF32, "f32", "F32", 4, true},
    {DType::kF16, "f16", "F16", 2, true},
    {DType::kBF16, "bf16", "BF16", 2, true},
    {DType::kF8E4M3, "f8e4m3", "F8_E4M3", 1, true},
    {DType::kF8E5M2, "f8e5m2", "F8_E5M2", 1, true},
    {DType::kI8, "i8", "I8", 1, false},
    {DType::kU8, "u8", "U8", 1, false},
    {DType::kI32, "i32", "I32", 4, false},
    {DType::kI64, "i64", "I64", 8, false},
};

// Rounds |v| to a float format of `mantissa` bits and exponent bias `bias`, saturating at
// `max_code`.
uint32_t round_to(float v, int mantissa, int bias, uint32_t max_code) {
  const float magnitude = std::fabs(v);
  if (magnitude == 0) return 0;
  int exponent;
  std::frexp(magnitude, &exponent);
  exponent = std::max(exponent - 1, 1 - bias);  // subnormals share the smallest exponent
  // Exact: a power of two times a float in range.
  const double units =
      std::nearbyint(std::ldexp(static_cast<double>(magnitude), mantissa - exponent));
  const double code = units + std::ldexp(static_cast<double>(exponent + bias - 1), mantissa);
  return code >= max_code ? max_code : static_cast<uint32_t>(code);
}

float widen(uint32_t code, int mantissa, int bias) {
  const int exponent = static_cast<int>(code >> mantissa);
  const auto fraction = static_cast<float>(code & ((1u << mantissa) - 1));
  if (exponent == 0) return std::ldexp(fraction, 1 - bias - mantissa);
  return std::ldexp(fraction + static_cast<float>(1u << mantissa), exponent - bias - mantissa);
}

template <class Convert>
std::array<float, 256> table(Convert convert) {
  std::array<float, 256> t;
  for (int i = 0; i < 256; ++i) t[static_cast<size_t>(i)] = convert(static_cast<uint8_t>(i));
  return t;
}

template <class T, class Convert>
void read_each(const std::byte* src, float* dst, size_t n, Convert convert) {
  for (size_t i = 0; i < n; ++i) {
    T v;
    std::memcpy(&v, src + i * sizeof(T), sizeof(T));
    dst[i] = convert(v);
  }
}

template <class T, class Convert>
void write_each(const float* src, std::byte* dst, size_t n, Convert convert) {
  for (size_t i = 0; i < n; ++i) {
    const T v = convert(src[i]);
    std::memcpy(dst + i * sizeof(T), &v, sizeof(T));
  }
}

}  // namespace

const DTypeInfo& info(DType type) { return kTypes[static_cast<size_t>(type)]; }
std::span<const DTypeInfo> dtypes() { return kTypes; }

std::optional<DType> dtype_from_safetensors(std::string_view name) {
  for (const auto& t : kTypes) {
    if (name == t.safetensors) return t.type;
  }
  return std::nullopt;
}

uint16_t f32_to_f16(float v) {
  const uint32_t u = std::bit_cast<uint32_t>(v);
  const uint32_t sign = (u >> 16) & 0x8000u;
  const uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // rounds to infinity
  if (magnitude < 0x38800000u) {  // subnormal: let the f32 adder round at the right bit
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

float f8e4m3_to_f32(uint8_t v) {
  const uint32_t magnitude = v & 0x7fu;
  const float f = magnitude == 0x7fu ? std::bit_cast<float>(0x7fc00000u) : widen(magnitude, 3, 7);
  return (v & 0x80u) ? -f : f;
}
uint8_t f32_to_f8e4m3(float v) {
  const uint8_t sign = std::signbit(v) ? 0x80 : 0;
  if (std::isnan(v)) return sign | 0x7f;
  if (std::isinf(v)) return sign | 0x7e;
  return static_cast<uint8_t>(sign | round_to(v, 3, 7, 0x7e));
}
float f8e5m2_to_f32(uint8_t v) { return f16_to_f32(static_cast<uint16_t>(v << 8)); }
uint8_t f32_to_f8e5m2(float v) {
  const uint8_t sign = std::signbit(v) ? 0x80 : 0;
  if (std::isnan(v)) return sign | 0x7e;
  if (std::isinf(v)) return sign | 0x7b;
  return static_cast<uint8_t>(sign | round_to(v, 2, 15, 0x7b));
}

void to_f32(DType type, const std::byte* src, float* dst, size_t n) {
  static const auto e4m3 = table(f8e4m3_to_f32);
  static const auto e5m2 = table(f8e5m2_to_f32);
  switch (type) {
    case DType::kF32:
      if (n > 0) std::memcpy(dst, src, n * sizeof(float));  // of nothing, the pointers may be null
      return;
    case DType::kF16:
      read_each<uint16_t>(src, dst, n, f16_to_f32);
      return;
    case DType::kBF16:
      read_each<uint16_t>(src, dst, n, bf16_to_f32);
      return;
    case DType::kF8E4M3:
      read_each<uint8_t>(src, dst, n, [](uint8_t v) { return e4m3[v]; });
      return;
    case DType::kF8E5M2:
      read_each<uint8_t>(src, dst, n, [](uint8_t v) { return e5m2[v]; });
      return;
    default:
      fail(ErrorKind::kUnsupported, "{} is not a floating type", info(type).name);
  }
}

void from_f32(DType type, const float* src, std::byte* dst, size_t n) {
  switch (type) {
    case DType::kF32:
      if (n > 0) std::memcpy(dst, src, n * sizeof(float));  // of nothing, the pointers may be null
      return;
    case DType::kF16:
      write_each<uint16_t>(src, dst, n, f32_to_f16);
      return;
    case DType::kBF16:
      write_each<uint16_t>(src, dst, n, f32_to_bf16);
      return;
    case DType::kF8E4M3:
      write_each<uint8_t>(src, dst, n, f32_to_f8e4m3);
      return;
    case DType::kF8E5M2:
      write_each<uint8_t>(src, dst, n, f32_to_f8e5m2);
      return;
    default:
      fail(ErrorKind::kUnsupported, "{} is not a floating type", info(type).name);
  }
}

}  // namespace pith
