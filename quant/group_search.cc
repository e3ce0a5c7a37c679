#include "quant/group_search.h"

#include <algorithm>
#include <cmath>

#include "formats/encodings/int_group.h"

namespace pith {

GroupSearch::GroupSearch(const Encoding& e, const GridKernels& grid)
    : grid_(grid),
      symmetric_(e.symmetric),
      bits_(e.bits),
      top_(static_cast<float>((1 << e.bits) - 1)) {}

GridChoice GroupSearch::run(const float* x, const float* w, int64_t n) {
  x_ = x;
  w_ = w;
  n_ = n;
  best_ = {};
  float low, high;
  grid_.range(x, n, &low, &high);
  if (low == 0 && high == 0) return {0, 0, symmetric_ ? half() : 0};
  symmetric_ ? search_symmetric(low, high) : search_asymmetric(low, high);
  for (int i = 0; i < 2; ++i) {
    const float before = best_.gain;
    try_grid(1 / best_.scale, best_.zero);
    if (!(best_.gain > before)) break;
  }
  return best_;
}

GridChoice GroupSearch::range(const float* x, int64_t n) const {
  float low, high;
  grid_.range(x, n, &low, &high);
  if (symmetric_) return {0, 2 * std::max(-low, high) / top_, half()};
  const float scale = (high - low) / top_;
  return {0, scale, scale > 0 ? std::clamp(std::nearbyint(-low / scale), 0.0f, top_) : 0};
}

void GroupSearch::try_grid(float inverse, float zero) {
  float xd, dd;
  grid_.project(x_, w_, n_, inverse, -zero, top_ - zero, &xd, &dd);
  if (!(dd > 0)) return;
  const float gain = xd * xd / dd;
  if (gain > best_.gain && xd != 0) best_ = {gain, xd / dd, zero};
}

void GroupSearch::search_symmetric(float low, float high) {
  const float absmax = std::max(-low, high);
  const int steps = bits_ >= 6 ? 4 : 9;
  for (int i = -steps; i <= steps; ++i) {
    const float inverse = (half() + 0.1f * static_cast<float>(i)) / absmax;
    if (inverse <= 0) continue;
    try_grid(inverse, half());
    try_grid(-inverse, half());
  }
}

void GroupSearch::search_asymmetric(float low, float high) {
  const int steps = bits_ >= 6 ? 6 : 18;
  for (int i = -2; i <= steps; ++i) {
    const float levels = top_ + 0.1f * static_cast<float>(bits_ <= 3 ? i : 2 * i);
    const float inverse = levels / (high - low);
    const float zero = std::clamp(std::nearbyint(-low * inverse), 0.0f, top_);
    try_grid(inverse, zero);
    if (bits_ <= 4 && zero > 0) try_grid(inverse, zero - 1);
    if (bits_ <= 4 && zero < top_) try_grid(inverse, zero + 1);
  }
}

int scale_row(const float* x, int64_t k, float* scaled) {
  float absmax = 0;
  for (int64_t i = 0; i < k; ++i) absmax = std::max(absmax, std::fabs(x[i]));
  const int e = absmax > 0 ? std::ilogb(absmax) : 0;
  // Two factors: one alone could be beyond the range.
  const float half = std::ldexp(1.0f, -e / 2), rest = std::ldexp(1.0f, -e - (-e / 2));
  for (int64_t i = 0; i < k; ++i) scaled[i] = x[i] * half * rest;
  return e;
}

float search_nf4(const float* x, const float* w, int64_t n) {
  float absmax = 0, best_gain = 0, best_scale = 0;
  for (int64_t i = 0; i < n; ++i) absmax = std::max(absmax, std::fabs(x[i]));
  const auto attempt = [&](float scale) {
    if (scale == 0) return;
    float xd = 0, dd = 0;
    for (int64_t i = 0; i < n; ++i) {
      const float d = kNf4Values[nearest_nf4(x[i] / scale)];
      xd += w[i] * x[i] * d;
      dd += w[i] * d * d;
    }
    if (dd > 0 && xd * xd / dd > best_gain) {
      best_gain = xd * xd / dd;
      best_scale = xd / dd;
    }
  };
  for (int i = 0; i <= 8; ++i) attempt(absmax * (1.04f - 0.04f * static_cast<float>(i)));
  attempt(best_scale);
  return best_scale;
}

}  // namespace pith
