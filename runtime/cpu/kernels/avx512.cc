// The kernels for AVX-512 (F, BW, VL, DQ, VNNI): a V16 is one register.
#ifndef PITH_SCALAR_ONLY
#include <immintrin.h>

#include <cstdint>

#include "runtime/cpu/kernels.h"

namespace pith {
namespace {

constexpr int kTileRows = 12, kTileVectors = 2;  // 24 sums, 2 columns, the rest for broadcasts

using V16 = __m512;

inline __mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }
inline V16 set1(float x) { return _mm512_set1_ps(x); }
inline V16 load(const float* p) { return _mm512_loadu_ps(p); }
inline V16 load_first(const float* p, int64_t n) {
  return n >= 16 ? load(p) : _mm512_maskz_loadu_ps(first_lanes(n), p);
}
inline void store(float* p, V16 a) { _mm512_storeu_ps(p, a); }
inline void store_first(float* p, V16 a, int64_t n) {
  _mm512_mask_storeu_ps(p, n >= 16 ? 0xffff : first_lanes(n), a);
}
inline V16 add(V16 a, V16 b) { return _mm512_add_ps(a, b); }
inline V16 sub(V16 a, V16 b) { return _mm512_sub_ps(a, b); }
inline V16 mul(V16 a, V16 b) { return _mm512_mul_ps(a, b); }
inline V16 div(V16 a, V16 b) { return _mm512_div_ps(a, b); }
inline V16 mul_add(V16 a, V16 b, V16 c) { return _mm512_fmadd_ps(a, b, c); }
inline V16 fma(V16 a, V16 b, V16 c) { return mul_add(a, b, c); }
inline V16 max(V16 a, V16 b) { return _mm512_max_ps(a, b); }
inline V16 min(V16 a, V16 b) { return _mm512_min_ps(a, b); }
inline V16 round_nearest(V16 a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline V16 power_of_two(V16 n) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
inline float sum(V16 a) {
  const __m256 w8 = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  const __m128 w4 = _mm_add_ps(_mm256_castps256_ps128(w8), _mm256_extractf128_ps(w8, 1));
  const __m128 w2 = _mm_add_ps(w4, _mm_movehl_ps(w4, w4));
  return _mm_cvtss_f32(_mm_add_ss(w2, _mm_movehdup_ps(w2)));
}
inline float max_lane(V16 a) { return _mm512_reduce_max_ps(a); }

inline V16 load_f16(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline void store_f16(uint16_t* p, V16 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline V16 load_bf16(const uint16_t* p) {
  const __m512i wide =
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
inline __m512i load_u8(const uint8_t* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
// 2^(e - 128): half of the float of exponent e, whose least is subnormal.
inline V16 load_e8m0(const uint8_t* p) {
  const __m512i bits =
      _mm512_max_epi32(_mm512_slli_epi32(load_u8(p), 23), _mm512_set1_epi32(1 << 22));
  return _mm512_mul_ps(_mm512_castsi512_ps(bits), _mm512_set1_ps(0.5f));
}
template <int shift>
inline V16 load_f8(const uint8_t* p, float rescale) {
  const __m512i c = load_u8(p);
  const __m512i sign = _mm512_slli_epi32(_mm512_and_si512(c, _mm512_set1_epi32(0x80)), 24);
  const __m512i rest = _mm512_slli_epi32(_mm512_and_si512(c, _mm512_set1_epi32(0x7f)), shift);
  return mul(_mm512_castsi512_ps(_mm512_or_si512(sign, rest)), set1(rescale));
}
inline V16 load_f8e4m3(const uint8_t* p) { return load_f8<20>(p, 0x1p120f); }
inline V16 load_f8e5m2(const uint8_t* p) { return load_f8<21>(p, 0x1p112f); }
inline V16 load_i8(const int8_t* p) {
  return _mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

#include "runtime/cpu/kernels/unpack_tables.h"

template <int bits>
inline __m512i unpack(const uint8_t* p) {  // the code in the low bits of each lane, others above it
  const __m512i copies =
      _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm512_srlv_epi32(_mm512_shuffle_epi8(copies, _mm512_load_si512(kUnpack<bits>.bytes)),
                           _mm512_load_si512(kUnpack<bits>.shifts));
}
template <int bits>
inline __m512i unpack_codes(const uint8_t* p) {
  if constexpr (bits == 8) return load_u8(p);
  return _mm512_and_si512(unpack<bits>(p), _mm512_set1_epi32((1 << bits) - 1));
}
#include "runtime/cpu/kernels/nf4_table.h"

using I16 = __m512i;
using Bytes = __m512i;
inline Bytes load_bytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
inline void store_bytes(uint8_t* p, Bytes a) { _mm512_storeu_si512(p, a); }
inline void store_i32(int32_t* p, I16 a) { _mm512_storeu_si512(p, a); }
template <int mask>
inline Bytes and_(Bytes a) {
  return _mm512_and_si512(a, _mm512_set1_epi8(mask));
}
template <int by>
inline Bytes shift(Bytes a) {
  if constexpr (by > 0) return _mm512_srli_epi32(a, by);
  if constexpr (by < 0) return _mm512_slli_epi32(a, -by);
  return a;
}
#include "runtime/cpu/kernels/e2m1_table.h"
inline Bytes table_lookup(Bytes a) {  // of bytes below 16
  const __m128i table = _mm_load_si128(reinterpret_cast<const __m128i*>(kE2M1Codes));
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), a);
}
inline Bytes or_(Bytes a, Bytes b) { return _mm512_or_si512(a, b); }
template <int byte, bool nf4>
inline V16 byte_values(Bytes a) {
  const __m512i c = shift<8 * byte>(a);  // the lookup takes the low four bits
  if constexpr (nf4) return _mm512_permutexvar_ps(c, _mm512_load_ps(kNf4));
  return _mm512_cvtepi32_ps(byte == 3 ? c : _mm512_and_si512(c, _mm512_set1_epi32(0xff)));
}

// Codes have no sign and inputs have one: what VNNI multiplies. It adds up without saturation.
constexpr int64_t kFewColumns = 256;  // whose inputs' sum fits 16 bits
inline I16 load_i32(const int32_t* p) { return _mm512_loadu_si512(p); }
inline I16 neg_mul(I16 a, int32_t factor) {
  return _mm512_mullo_epi32(a, _mm512_set1_epi32(-factor));
}
inline I16 neg_mul16(I16 a, int32_t factor) {
  return _mm512_madd_epi16(a, _mm512_set1_epi32(-factor & 0xffff));
}
inline I16 mul(I16 a, const int32_t* p) { return _mm512_mullo_epi32(a, _mm512_loadu_si512(p)); }
inline I16 add(I16 a, I16 b) { return _mm512_add_epi32(a, b); }
template <int>
inline I16 dot4(I16 sum, Bytes c, const int8_t* x) {
  int32_t four;
  __builtin_memcpy(&four, x, 4);
  // _mm512_dpbusd_epi32, of which gcc 12 copies the sum to another register and back.
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(c), "v"(_mm512_set1_epi32(four)));
  return sum;
}
template <int>
inline I16 dot4_unsigned_inputs(I16 sum, const uint8_t* x, Bytes c) {
  int32_t four;
  __builtin_memcpy(&four, x, 4);
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(_mm512_set1_epi32(four)), "v"(c));
  return sum;
}
template <int bits>
PITH_INLINE void dot16(I16* sums, const Bytes* c, const int8_t* x) {
  sums[0] = dot4<bits>(sums[0], c[0], x);
  sums[1] = dot4<bits>(sums[1], c[1], x + 4);
  sums[0] = dot4<bits>(sums[0], c[2], x + 8);
  sums[1] = dot4<bits>(sums[1], c[3], x + 12);
}
inline I16 zero_i32() { return _mm512_setzero_si512(); }
inline V16 to_float(I16 a) { return _mm512_cvtepi32_ps(a); }

#include "runtime/cpu/kernels/body.h"

}  // namespace

const CpuKernels kAvx512Kernels = PITH_KERNEL_TABLE("avx512");

}  // namespace pith
#endif
