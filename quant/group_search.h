// The search for the scale and zero point of one group of integers.
//
// For a candidate inverse scale t and zero z let d_i = clamp(round(x_i t), -z, top - z). The scale
// that then loses least, sum w_i (x_i - s d_i)^2, is s = sum(w x d) / sum(w d^2), and what it gains
// over s = 0 is sum(w x d)^2 / sum(w d^2): the candidate with the largest gain wins, and is refined
// by t = 1/s for as long as that helps (at most twice).
//
// Symmetric candidates put the element of largest magnitude on steps around the end of the range
// that has one more code, with either sign of the scale (the full range is used; make_qx_quants of
// llama.cpp is the same idea); asymmetric ones shrink the range in steps, with the zero point
// nearest to where the low end falls and, up to 4 bits, its neighbours.
#pragma once

#include <cstdint>

#include "formats/encodings/encoding.h"
#include "quant/grid.h"

namespace pith {

struct GridChoice {
  float gain = 0, scale = 0, zero = 0;
};

class GroupSearch {
 public:
  GroupSearch(const Encoding& e, const GridKernels& grid);

  // x, w [n]: numbers and their weights.
  GridChoice run(const float* x, const float* w, int64_t n);
  // Plain: the range of the numbers onto the range of the codes.
  GridChoice range(const float* x, int64_t n) const;

 private:
  float half() const { return static_cast<float>(1 << (bits_ - 1)); }
  void try_grid(float inverse, float zero);
  void search_symmetric(float low, float high);
  void search_asymmetric(float low, float high);

  const GridKernels& grid_;
  bool symmetric_;
  int bits_;
  float top_;
  const float* x_ = nullptr;
  const float* w_ = nullptr;
  int64_t n_ = 0;
  GridChoice best_;
};

// The scale of a group of 4-bit normal floats x with weights w: ranges shrunk in steps, then what
// loses least, s = sum(w x d) / sum(w d^2).
float search_nf4(const float* x, const float* w, int64_t n);

// scaled = x * 2^-e with the largest magnitude in [1, 2); returns e. Nothing is rounded by that,
// and neither tiny nor huge weights leave the range of f32 when they are squared.
int scale_row(const float* x, int64_t k, float* scaled);

}  // namespace pith
