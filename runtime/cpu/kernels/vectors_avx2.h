// The vectors of 256 bits that the kernels for AVX2 and AVX-VNNI are written in: a V16 is a pair of
// registers. Included in the anonymous namespace of a file of one instruction level.

constexpr int kTileRows = 4,
              kTileVectors = 1;  // 8 sums, 2 columns, and room for broadcasts, of 16 registers

struct V16 {
  __m256 a, b;
};

inline V16 set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline V16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void store(float* p, V16 v) {
  _mm256_storeu_ps(p, v.a);
  _mm256_storeu_ps(p + 8, v.b);
}
inline V16 load_first(const float* p, int64_t n) {
  if (n >= 16) return load(p);
  float lanes[16] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
  return load(lanes);
}
inline void store_first(float* p, V16 v, int64_t n) {
  if (n >= 16) return store(p, v);
  float lanes[16];
  store(lanes, v);
  for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}
inline V16 add(V16 x, V16 y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline V16 sub(V16 x, V16 y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline V16 mul(V16 x, V16 y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline V16 div(V16 x, V16 y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline V16 mul_add(V16 x, V16 y, V16 z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
inline V16 fma(V16 a, V16 b, V16 c) { return mul_add(a, b, c); }
inline V16 max(V16 x, V16 y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline V16 min(V16 x, V16 y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline V16 round_nearest(V16 x) {
  constexpr int kMode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(x.a, kMode), _mm256_round_ps(x.b, kMode)};
}
inline __m256 power_of_two8(__m256 n) {
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
inline V16 power_of_two(V16 n) { return {power_of_two8(n.a), power_of_two8(n.b)}; }
inline float sum(V16 v) {
  const __m256 w8 = _mm256_add_ps(v.a, v.b);
  const __m128 w4 = _mm_add_ps(_mm256_castps256_ps128(w8), _mm256_extractf128_ps(w8, 1));
  const __m128 w2 = _mm_add_ps(w4, _mm_movehl_ps(w4, w4));
  return _mm_cvtss_f32(_mm_add_ss(w2, _mm_movehdup_ps(w2)));
}
inline float max_lane(V16 v) {
  const __m256 w8 = _mm256_max_ps(v.a, v.b);
  const __m128 w4 = _mm_max_ps(_mm256_castps256_ps128(w8), _mm256_extractf128_ps(w8, 1));
  const __m128 w2 = _mm_max_ps(w4, _mm_movehl_ps(w4, w4));
  return _mm_cvtss_f32(_mm_max_ss(w2, _mm_movehdup_ps(w2)));
}

inline __m128i load128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline V16 load_f16(const uint16_t* p) {
  return {_mm256_cvtph_ps(load128(p)), _mm256_cvtph_ps(load128(p + 8))};
}
inline void store_f16(uint16_t* p, V16 v) {
  constexpr int kMode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v.a, kMode));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(v.b, kMode));
}
inline __m256 bf16_to_f32(__m128i h) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
inline V16 load_bf16(const uint16_t* p) {
  return {bf16_to_f32(load128(p)), bf16_to_f32(load128(p + 8))};
}

struct I16 {
  __m256i a, b;
};
inline I16 load_u8(const uint8_t* p) {
  const __m128i c = load128(p);
  return {_mm256_cvtepu8_epi32(c), _mm256_cvtepu8_epi32(_mm_srli_si128(c, 8))};
}
template <int shift>
inline __m256 f8_to_f32(__m256i c, float rescale) {
  const __m256i sign = _mm256_slli_epi32(_mm256_and_si256(c, _mm256_set1_epi32(0x80)), 24);
  const __m256i rest = _mm256_slli_epi32(_mm256_and_si256(c, _mm256_set1_epi32(0x7f)), shift);
  return _mm256_mul_ps(_mm256_castsi256_ps(_mm256_or_si256(sign, rest)), _mm256_set1_ps(rescale));
}
inline V16 load_f8e4m3(const uint8_t* p) {
  const I16 c = load_u8(p);
  return {f8_to_f32<20>(c.a, 0x1p120f), f8_to_f32<20>(c.b, 0x1p120f)};
}
inline V16 load_f8e5m2(const uint8_t* p) {
  const I16 c = load_u8(p);
  return {f8_to_f32<21>(c.a, 0x1p112f), f8_to_f32<21>(c.b, 0x1p112f)};
}
inline V16 load_i8(const int8_t* p) {
  const __m128i c = load128(p);
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(c)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(c, 8)))};
}

// 2^(e - 128): half of the float of exponent e, whose least is subnormal.
inline V16 load_e8m0(const uint8_t* p) {
  const auto half = [](__m256i e) {
    const __m256i bits = _mm256_max_epi32(_mm256_slli_epi32(e, 23), _mm256_set1_epi32(1 << 22));
    return _mm256_mul_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(0.5f));
  };
  const I16 e = load_u8(p);
  return {half(e.a), half(e.b)};
}

#include "runtime/cpu/kernels/unpack_tables.h"

template <int bits>
inline I16 unpack(const uint8_t* p) {
  const __m256i copies = _mm256_broadcastsi128_si256(load128(p));
  const auto half = [&](int h) {
    const __m256i bytes =
        _mm256_load_si256(reinterpret_cast<const __m256i*>(kUnpack<bits>.bytes) + h);
    const __m256i shifts =
        _mm256_load_si256(reinterpret_cast<const __m256i*>(kUnpack<bits>.shifts) + h);
    return _mm256_and_si256(_mm256_srlv_epi32(_mm256_shuffle_epi8(copies, bytes), shifts),
                            _mm256_set1_epi32((1 << bits) - 1));
  };
  return {half(0), half(1)};
}
template <int bits>
inline I16 unpack_codes(const uint8_t* p) {
  if constexpr (bits == 8) return load_u8(p);
  return unpack<bits>(p);
}
#include "runtime/cpu/kernels/nf4_table.h"
// A table of 16 as two of 8: the lookup takes the low three bits, the fourth picks the table.
inline __m256 nf4_lookup(__m256i c) {
  const __m256 low = _mm256_permutevar8x32_ps(_mm256_load_ps(kNf4), c);
  const __m256 high = _mm256_permutevar8x32_ps(_mm256_load_ps(kNf4 + 8), c);
  return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(c, 28)));
}

inline __m256i load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store256(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }
using Bytes = I16;
inline Bytes load_bytes(const uint8_t* p) { return {load256(p), load256(p + 32)}; }
inline void store_bytes(uint8_t* p, Bytes v) {
  store256(p, v.a);
  store256(p + 32, v.b);
}
inline void store_i32(int32_t* p, I16 v) {
  store256(p, v.a);
  store256(p + 8, v.b);
}
template <int mask>
inline Bytes and_(Bytes v) {
  const __m256i m = _mm256_set1_epi8(mask);
  return {_mm256_and_si256(v.a, m), _mm256_and_si256(v.b, m)};
}
template <int by>
inline Bytes shift(Bytes v) {
  if constexpr (by > 0) return {_mm256_srli_epi32(v.a, by), _mm256_srli_epi32(v.b, by)};
  if constexpr (by < 0) return {_mm256_slli_epi32(v.a, -by), _mm256_slli_epi32(v.b, -by)};
  return v;
}
#include "runtime/cpu/kernels/e2m1_table.h"
inline Bytes table_lookup(Bytes v) {  // of bytes below 16
  const __m256i table = _mm256_broadcastsi128_si256(load128(kE2M1Codes));
  return {_mm256_shuffle_epi8(table, v.a), _mm256_shuffle_epi8(table, v.b)};
}
inline Bytes or_(Bytes x, Bytes y) {
  return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)};
}
template <int byte, bool nf4>
inline V16 byte_values(Bytes v) {
  const __m256i low = _mm256_set1_epi32(0xff);
  const Bytes c = shift<8 * byte>(v);
  const __m256i a = _mm256_and_si256(c.a, low), b = _mm256_and_si256(c.b, low);
  if constexpr (nf4) return {nf4_lookup(a), nf4_lookup(b)};
  return {_mm256_cvtepi32_ps(a), _mm256_cvtepi32_ps(b)};
}

constexpr int64_t kFewColumns = 256;  // whose inputs' sum fits 16 bits
inline I16 load_i32(const int32_t* p) { return {load256(p), load256(p + 8)}; }
inline I16 neg_mul(I16 v, int32_t factor) {
  const __m256i f = _mm256_set1_epi32(-factor);
  return {_mm256_mullo_epi32(v.a, f), _mm256_mullo_epi32(v.b, f)};
}
inline I16 neg_mul16(I16 v, int32_t factor) {
  const __m256i f = _mm256_set1_epi32(-factor & 0xffff);
  return {_mm256_madd_epi16(v.a, f), _mm256_madd_epi16(v.b, f)};
}
inline I16 mul(I16 v, const int32_t* p) {
  return {_mm256_mullo_epi32(v.a, load256(p)), _mm256_mullo_epi32(v.b, load256(p + 8))};
}
inline I16 add(I16 x, I16 y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
inline __m256i broadcast4(const void* x) {
  int32_t four;
  __builtin_memcpy(&four, x, 4);
  return _mm256_set1_epi32(four);
}
inline I16 zero_i32() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
inline V16 to_float(I16 v) { return {_mm256_cvtepi32_ps(v.a), _mm256_cvtepi32_ps(v.b)}; }
