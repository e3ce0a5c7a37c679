// The inner loops of rounding to a grid, one set per instruction level from one text (grid_body.h).
// Sums run in 16 lanes in a fixed order and nothing is contracted, so that every level gives the
// same bits.
#pragma once

#include <cstdint>

namespace pith {

struct GridKernels {
  // *low and *high of x and 0
  void (*range)(const float* x, int64_t n, float* low, float* high);
  // d = clamp(round(x * inverse), low, high), ties to even:  *xd = sum w x d,  *dd = sum w d^2
  void (*project)(const float* x, const float* w, int64_t n, float inverse, float low, float high,
                  float* xd, float* dd);
  // codes = clamp(round(x * inverse), low, high) - low
  void (*codes)(const float* x, int64_t n, float inverse, float low, float high, uint8_t* codes);
};

const GridKernels& grid_kernels();  // of the level that the runtime chose

extern const GridKernels kGridScalar;
extern const GridKernels kGridAvx2;
extern const GridKernels kGridAvx512;

}  // namespace pith
