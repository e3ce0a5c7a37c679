// The kernels for AVX-VNNI: those of AVX2 with products of bytes that go to 32 bits at once. The
// same text compiles for the 256-bit form of AVX-512 VNNI, which gives the same numbers: so that
// processors of either kind can test it.
#ifndef PITH_SCALAR_ONLY
#include <immintrin.h>

#include <cstdint>

#include "runtime/cpu/kernels.h"

#ifndef PITH_AVXVNNI_KERNELS
#define PITH_AVXVNNI_KERNELS kAvxVnniKernels
#endif

namespace pith {
namespace {

#include "runtime/cpu/kernels/vectors_avx2.h"

// Codes have no sign and inputs have one: what VNNI multiplies. It adds up without saturation.
inline __m256i dpbusd(__m256i sum, __m256i u8, __m256i s8) {
#ifdef __AVXVNNI__
  return _mm256_dpbusd_avx_epi32(sum, u8, s8);
#else
  return _mm256_dpbusd_epi32(sum, u8, s8);
#endif
}
template <int>
inline I16 dot4(I16 sum, Bytes c, const int8_t* p) {
  const __m256i x = broadcast4(p);
  return {dpbusd(sum.a, c.a, x), dpbusd(sum.b, c.b, x)};
}
template <int>
inline I16 dot4_unsigned_inputs(I16 sum, const uint8_t* p, Bytes c) {
  const __m256i x = broadcast4(p);
  return {dpbusd(sum.a, x, c.a), dpbusd(sum.b, x, c.b)};
}
template <int bits>
PITH_INLINE void dot16(I16* sums, const Bytes* c, const int8_t* x) {
  sums[0] = dot4<bits>(sums[0], c[0], x);
  sums[1] = dot4<bits>(sums[1], c[1], x + 4);
  sums[0] = dot4<bits>(sums[0], c[2], x + 8);
  sums[1] = dot4<bits>(sums[1], c[3], x + 12);
}

#include "runtime/cpu/kernels/body.h"

}  // namespace

const CpuKernels PITH_AVXVNNI_KERNELS = PITH_KERNEL_TABLE("avxvnni");

}  // namespace pith
#endif
