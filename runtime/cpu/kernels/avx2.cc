// The kernels for AVX2 with FMA and F16C.
#ifndef PITH_SCALAR_ONLY
#include <immintrin.h>

#include <cstdint>

#include "runtime/cpu/kernels.h"

namespace pith {
namespace {

#include "runtime/cpu/kernels/vectors_avx2.h"

// Bytes multiplied as bytes (maddubs) are added in pairs to 16 bits that saturate: two products of
// up to 6 bits fit (2 * 63 * 127), and eight of up to 4 bits (8 * 15 * 127 < 2^15). Codes of 8 bits
// go as pairs of 16 bits, the even ones and the odd ones.
inline __m256i add_pairs(__m256i sum, __m256i pairs) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
inline __m256i dot_wide(__m256i sum, __m256i c, __m256i even, __m256i odd) {
  sum =
      _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_and_si256(c, _mm256_set1_epi16(0xff)), even));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_srli_epi16(c, 8), odd));
}
template <int bits>
inline I16 dot4(I16 sum, Bytes c, const int8_t* p) {
  const __m256i x = broadcast4(p);
  if constexpr (bits < 8)
    return {add_pairs(sum.a, _mm256_maddubs_epi16(c.a, x)),
            add_pairs(sum.b, _mm256_maddubs_epi16(c.b, x))};
  const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8), odd = _mm256_srai_epi16(x, 8);
  return {dot_wide(sum.a, c.a, even, odd), dot_wide(sum.b, c.b, even, odd)};
}
// Inputs without a sign and codes with one: two products of up to 63 * 255 fit 16 bits as well.
inline __m256i dot4_unsigned_inputs_wide(__m256i sum, __m256i c, __m256i even, __m256i odd) {
  const __m256i low = _mm256_srai_epi16(_mm256_slli_epi16(c, 8), 8);
  sum = _mm256_add_epi32(sum, _mm256_madd_epi16(low, even));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_srai_epi16(c, 8), odd));
}
template <int bits>
inline I16 dot4_unsigned_inputs(I16 sum, const uint8_t* p, Bytes c) {
  const __m256i x = broadcast4(p);
  if constexpr (bits < 8)
    return {add_pairs(sum.a, _mm256_maddubs_epi16(x, c.a)),
            add_pairs(sum.b, _mm256_maddubs_epi16(x, c.b))};
  const __m256i even = _mm256_and_si256(x, _mm256_set1_epi16(0xff)), odd = _mm256_srli_epi16(x, 8);
  return {dot4_unsigned_inputs_wide(sum.a, c.a, even, odd),
          dot4_unsigned_inputs_wide(sum.b, c.b, even, odd)};
}
template <int bits>
PITH_INLINE void dot16(I16* sums, const Bytes* c, const int8_t* x) {
  if constexpr (bits > 4) {
    sums[0] = dot4<bits>(sums[0], c[0], x);
    sums[1] = dot4<bits>(sums[1], c[1], x + 4);
    sums[0] = dot4<bits>(sums[0], c[2], x + 8);
    sums[1] = dot4<bits>(sums[1], c[3], x + 12);
    return;
  }
  const auto pairs = [&](__m256i Bytes::*half) {
    const auto product = [&](int i) {
      return _mm256_maddubs_epi16(c[i].*half, broadcast4(x + 4 * i));
    };
    return _mm256_add_epi16(_mm256_add_epi16(product(0), product(1)),
                            _mm256_add_epi16(product(2), product(3)));
  };
  sums[0].a = add_pairs(sums[0].a, pairs(&Bytes::a));
  sums[0].b = add_pairs(sums[0].b, pairs(&Bytes::b));
}

#include "runtime/cpu/kernels/body.h"

}  // namespace

const CpuKernels kAvx2Kernels = PITH_KERNEL_TABLE("avx2");

}  // namespace pith
#endif
