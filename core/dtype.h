// Element types of tensors in files and in memory, and exact conversions between them.
// f32 -> narrower rounds to nearest, ties to even. fp8 e4m3 is the "fn" form: no infinity, 448 is
// the largest, values beyond saturate; e5m2 is IEEE-like and saturates at 57344 here as well.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace pith {

enum class DType : uint8_t { kF32, kF16, kBF16, kF8E4M3, kF8E5M2, kI8, kU8, kI32, kI64 };

struct DTypeInfo {
  DType type;
  const char* name;         // "f32"
  const char* safetensors;  // "F32"
  uint32_t bytes;
  bool floating;
};

const DTypeInfo& info(DType type);
std::span<const DTypeInfo> dtypes();
std::optional<DType> dtype_from_safetensors(std::string_view name);

inline float bf16_to_f32(uint16_t v) {
  return std::bit_cast<float>(static_cast<uint32_t>(v) << 16);
}
inline uint16_t f32_to_bf16(float v) {
  uint32_t u = std::bit_cast<uint32_t>(v);
  if ((u & 0x7fffffffu) > 0x7f800000u)
    return static_cast<uint16_t>((u >> 16) | 0x40u);  // NaN stays
  return static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

// Branch-free where it matters: these run over whole checkpoints, and the compiler vectorizes them.
inline float f16_to_f32(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t magnitude = h & 0x7fffu;
  // Exponent and mantissa moved into place, then rescaled by 2^112: exact for normals and
  // subnormals.
  const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  const uint32_t special = magnitude >= 0x7c00u ? 0x7f800000u : 0u;  // infinity or NaN
  return std::bit_cast<float>(std::bit_cast<uint32_t>(scaled) | special | sign);
}
uint16_t f32_to_f16(float v);

float f8e4m3_to_f32(uint8_t v);
uint8_t f32_to_f8e4m3(float v);
float f8e5m2_to_f32(uint8_t v);
uint8_t f32_to_f8e5m2(float v);

// n elements of a floating type at src (any alignment) to f32, and back. Other types:
// Error(kUnsupported).
void to_f32(DType type, const std::byte* src, float* dst, size_t n);
void from_f32(DType type, const float* src, std::byte* dst, size_t n);

}  // namespace pith
