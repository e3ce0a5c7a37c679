// The kernels for AMX: those of AVX-512, but for the product of many tokens with a panel, which
// goes through tile registers. The panel's codes [columns / 4, 32, 4] are two tiles side by side as
// they lie.
#ifndef PITH_SCALAR_ONLY
#include <immintrin.h>

#include <cstdint>

#include "runtime/cpu/kernels.h"

#ifndef PITH_AMX_KERNELS
#define PITH_AMX_KERNELS kAmxKernels
#define PITH_AMX_TILES "runtime/cpu/kernels/amx_tiles.h"
#endif

namespace pith {
namespace {

#include PITH_AMX_TILES

// c[16 M, 32] (+)= what int8_gemm gives of whole pieces [begin, end): M tiles of tokens by two of
// rows. `width` columns at a time.
template <int M, bool rest>
void amx_tiles(const IntBlocking& blocking, int64_t begin, int64_t end, int64_t width,
               const PanelInputs& x, int64_t token, const IntPanel& w, float* c, bool accumulate) {
  alignas(64) int32_t sums[M * 16][32];
  const int64_t piece = blocking.step * blocking.steps_of_piece;
  for (int64_t p = begin; p < end; ++p) {
    // Every token starts from the same sums.
    load_tile<0>(w.offsets + 32 * p, 0);
    load_tile<1>(w.offsets + 32 * p + 16, 0);
    if constexpr (M == 2) {
      load_tile<2>(w.offsets + 32 * p, 0);
      load_tile<3>(w.offsets + 32 * p + 16, 0);
    }
    for (int64_t column = p * piece; column < (p + 1) * piece; column += width) {
      const uint8_t* const inputs = x.x + token * x.stride + column;
      load_tile<6>(w.codes + 32 * column, 128);
      load_tile<7>(w.codes + 32 * column + 64, 128);
      load_tile<4>(inputs, x.stride);
      multiply_tiles<0, 4, 6>();
      multiply_tiles<1, 4, 7>();
      if constexpr (M == 2) {
        load_tile<5>(inputs + 16 * x.stride, x.stride);
        multiply_tiles<2, 5, 6>();
        multiply_tiles<3, 5, 7>();
      }
    }
    store_tile<0>(sums[0], 128);
    store_tile<1>(sums[0] + 16, 128);
    if constexpr (M == 2) {
      store_tile<2>(sums[16], 128);
      store_tile<3>(sums[16] + 16, 128);
    }
    const float* const x_scales = x.scales + p / blocking.pieces_of_block * x.all + token;
    for (int half = 0; half < 32; half += 16) {
      const __m512 scales = _mm512_loadu_ps(w.scales + 32 * p + half);
      for (int t = 0; t < 16 * M; ++t) {
        __m512i sum = _mm512_load_si512(sums[t] + half);
        if constexpr (rest) {
          const __m512i left = _mm512_loadu_si512(w.rest + 32 * p + half);
          const __m512i of_token = _mm512_set1_epi32(x.sums[p * x.all + token + t]);
          sum = _mm512_sub_epi32(sum, _mm512_mullo_epi32(left, of_token));
        }
        float* const to = c + 32 * t + half;
        const __m512 total = accumulate || p > begin ? _mm512_loadu_ps(to) : _mm512_setzero_ps();
        const __m512 scale = _mm512_mul_ps(scales, _mm512_set1_ps(x_scales[t]));
        _mm512_storeu_ps(to, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, total));
      }
    }
  }
}

void amx_int8_gemm(int bits, const IntBlocking& blocking, int64_t begin, int64_t end, int64_t k,
                   const PanelInputs& x, int64_t token, int64_t m, const IntPanel& w, float* c,
                   bool accumulate) {
  const int64_t piece = blocking.step * blocking.steps_of_piece;
  const int64_t whole = k / piece < end ? k / piece : end;  // pieces; the last may be shorter
  int64_t t = 0;
  if (whole > begin && m >= 16) {
    const int width = piece % 64 == 0 ? 64 : piece % 32 == 0 ? 32 : 16;
    configure_tiles(width);
    const auto some = [&](auto f, int64_t tokens) {
      f(blocking, begin, whole, width, x, token + t, w, c + 32 * t, accumulate);
      t += tokens;
    };
    while (m - t >= 32) some(w.rest ? amx_tiles<2, true> : amx_tiles<2, false>, 32);
    if (m - t >= 16) some(w.rest ? amx_tiles<1, true> : amx_tiles<1, false>, 16);
    release_tiles();
    if (whole < end)
      kAvx512Kernels.int8_gemm(bits, blocking, whole, end, k, x, token, t, w, c, true);
  }
  if (t < m)
    kAvx512Kernels.int8_gemm(bits, blocking, begin, end, k, x, token + t, m - t, w, c + 32 * t,
                             accumulate);
}

// What the tiles can do in registers alone, in the units of the other levels: 64 products a round.
double amx_int8_peak(int64_t n) {
  configure_tiles(64);
  alignas(64) uint8_t zeros[1024] = {};
  load_tile<4>(zeros, 64);
  load_tile<5>(zeros, 64);
  load_tile<6>(zeros, 64);
  load_tile<7>(zeros, 64);
  for (int64_t i = 0; i < n; ++i) {
    multiply_tiles<0, 4, 6>();
    multiply_tiles<1, 4, 7>();
    multiply_tiles<2, 5, 6>();
    multiply_tiles<3, 5, 7>();
  }
  release_tiles();
  return 2.0 * 4 * 16 * 16 * 64 * static_cast<double>(n);
}

CpuKernels amx_kernels() {
  CpuKernels kernels = kAvx512Kernels;
  kernels.name = "amx";
  kernels.int8_gemm = amx_int8_gemm;
  kernels.int8_peak = amx_int8_peak;
  return kernels;
}

}  // namespace

const CpuKernels PITH_AMX_KERNELS = amx_kernels();

}  // namespace pith
#endif
