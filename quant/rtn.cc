// Rounding to nearest on a grid that is searched for.
//
// Integers: for a candidate inverse scale t and zero z let d_i = clamp(round(x_i t), -z, top - z).
// The scale that then loses least, sum w_i (x_i - s d_i)^2, is s = sum(w x d) / sum(w d^2), and
// what it gains over s = 0 is sum(w x d)^2 / sum(w d^2): the candidate with the largest gain wins,
// is refined by t = 1/s for as long as that helps (at most twice), and the codes are then chosen
// again for the scale as it is stored.
//
// Symmetric candidates put the element of largest magnitude on steps around the end of the range
// that has one more code, with either sign of the scale (the full range is used; make_qx_quants of
// llama.cpp is the same idea); asymmetric ones shrink the range in steps, with the zero point
// nearest to where the low end falls and, up to 4 bits, its neighbours.
//
// Rows are searched at magnitudes near 1, scaled by a power of two: nothing is rounded by that, and
// neither tiny nor huge weights leave the range of f32 when they are squared.
//
// Weights: w_i = channel weight (mean square of the input) where calibration ran, else magnitude:
// 3 rms + |x_i|.

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/error.h"
#include "formats/encodings/int_group.h"
#include "quant/grid.h"
#include "quant/method.h"

namespace pith {
namespace {

struct Choice {
  float gain = 0, scale = 0, zero = 0;
};

class GroupSearch {
 public:
  GroupSearch(const Encoding& e, const GridKernels& grid)
      : grid_(grid),
        symmetric_(e.symmetric),
        bits_(e.bits),
        top_(static_cast<float>((1 << e.bits) - 1)) {}

  Choice run(const float* x, const float* w, int64_t n) {
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

 private:
  float half() const { return static_cast<float>(1 << (bits_ - 1)); }

  void try_grid(float inverse, float zero) {
    float xd, dd;
    grid_.project(x_, w_, n_, inverse, -zero, top_ - zero, &xd, &dd);
    if (!(dd > 0)) return;
    const float gain = xd * xd / dd;
    if (gain > best_.gain && xd != 0) best_ = {gain, xd / dd, zero};
  }

  void search_symmetric(float low, float high) {
    const float absmax = std::max(-low, high);
    const int steps = bits_ >= 6 ? 4 : 9;
    for (int i = -steps; i <= steps; ++i) {
      const float inverse = (half() + 0.1f * static_cast<float>(i)) / absmax;
      if (inverse <= 0) continue;
      try_grid(inverse, half());
      try_grid(-inverse, half());
    }
  }

  void search_asymmetric(float low, float high) {
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

  const GridKernels& grid_;
  bool symmetric_;
  int bits_;
  float top_;
  const float* x_ = nullptr;
  const float* w_ = nullptr;
  int64_t n_ = 0;
  Choice best_;
};

// scaled = x * 2^-e with the largest magnitude in [1, 2); returns e.
int scale_row(const float* x, int64_t k, std::vector<float>* scaled) {
  float absmax = 0;
  for (int64_t i = 0; i < k; ++i) absmax = std::max(absmax, std::fabs(x[i]));
  const int e = absmax > 0 ? std::ilogb(absmax) : 0;
  // Two factors: one alone could be beyond the range.
  const float half = std::ldexp(1.0f, -e / 2), rest = std::ldexp(1.0f, -e - (-e / 2));
  for (int64_t i = 0; i < k; ++i) (*scaled)[static_cast<size_t>(i)] = x[i] * half * rest;
  return e;
}

void fill_weights(const RowJob& job, const float* x, std::vector<float>* weights) {
  if (job.channel_weight != nullptr) {
    std::copy(job.channel_weight, job.channel_weight + job.k, weights->begin());
    return;
  }
  double squares = 0;
  for (int64_t i = 0; i < job.k; ++i)
    squares += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  const auto rms =
      static_cast<float>(std::sqrt(squares / static_cast<double>(std::max<int64_t>(1, job.k))));
  for (int64_t i = 0; i < job.k; ++i)
    (*weights)[static_cast<size_t>(i)] = 3 * rms + std::fabs(x[i]);
}

void encode_int(const RowJob& job) {
  const Encoding& e = job.encoding;
  const GridKernels& grid = grid_kernels();
  GroupSearch search(e, grid);
  const GroupLayout l(e, job.n, job.k);
  const auto groups = static_cast<size_t>(l.groups);
  const auto top = static_cast<float>((1 << e.bits) - 1);
  std::vector<float> scales(groups), weights(static_cast<size_t>(job.k)), scaled(weights.size());
  std::vector<uint8_t> zeros(groups), codes(static_cast<size_t>(job.k));
  for (int64_t r = 0; r < job.rows; ++r) {
    const float* x = job.w + r * job.k;
    const int exponent = scale_row(x, job.k, &scaled);
    fill_weights(job, scaled.data(), &weights);
    for (size_t g = 0; g < groups; ++g) {
      const int64_t begin = l.group_begin(static_cast<int64_t>(g)),
                    end = l.group_end(static_cast<int64_t>(g));
      const Choice c = search.run(scaled.data() + begin, weights.data() + begin, end - begin);
      scales[g] = std::ldexp(c.scale, exponent);
      zeros[g] = static_cast<uint8_t>(c.zero);
    }
    store_scales(e, l, job.to, job.row + r, scales);
    for (size_t g = 0; g < groups; ++g) {
      const int64_t begin = l.group_begin(static_cast<int64_t>(g)),
                    end = l.group_end(static_cast<int64_t>(g));
      const float inverse = scales[g] != 0 ? 1 / scales[g] : 0, zero = zeros[g];
      grid.codes(x + begin, end - begin, inverse, -zero, top - zero, codes.data() + begin);
    }
    if (!e.symmetric) store_zeros(l, job.to, job.row + r, zeros);
    store_codes(l, job.to, job.row + r, codes);
  }
}

// nf4: the scale over shrunken ranges, refined by least squares.
void encode_nf4(const RowJob& job) {
  const Encoding& e = job.encoding;
  const GroupLayout l(e, job.n, job.k);
  const auto groups = static_cast<size_t>(l.groups);
  std::vector<float> scales(groups), weights(static_cast<size_t>(job.k)), scaled(weights.size());
  std::vector<uint8_t> codes(static_cast<size_t>(job.k));
  float middles[15];
  for (size_t i = 0; i < 15; ++i) middles[i] = (kNf4Values[i] + kNf4Values[i + 1]) / 2;
  const auto nearest = [&](float v) {
    size_t c = 0;
    for (const float m : middles) c += v > m;
    return c;
  };
  for (int64_t r = 0; r < job.rows; ++r) {
    const float* x = job.w + r * job.k;
    const int exponent = scale_row(x, job.k, &scaled);
    fill_weights(job, scaled.data(), &weights);
    for (size_t g = 0; g < groups; ++g) {
      const int64_t begin = l.group_begin(static_cast<int64_t>(g)),
                    end = l.group_end(static_cast<int64_t>(g));
      float absmax = 0, best_gain = 0, best_scale = 0;
      for (int64_t i = begin; i < end; ++i)
        absmax = std::max(absmax, std::fabs(scaled[static_cast<size_t>(i)]));
      const auto attempt = [&](float scale) {
        if (scale == 0) return;
        float xd = 0, dd = 0;
        for (int64_t i = begin; i < end; ++i) {
          const float v = scaled[static_cast<size_t>(i)];
          const float d = kNf4Values[nearest(v / scale)];
          xd += weights[static_cast<size_t>(i)] * v * d;
          dd += weights[static_cast<size_t>(i)] * d * d;
        }
        if (dd > 0 && xd * xd / dd > best_gain) {
          best_gain = xd * xd / dd;
          best_scale = xd / dd;
        }
      };
      for (int i = 0; i <= 8; ++i) attempt(absmax * (1.04f - 0.04f * static_cast<float>(i)));
      attempt(best_scale);
      scales[g] = std::ldexp(best_scale, exponent);
    }
    store_scales(e, l, job.to, job.row + r, scales);
    for (size_t g = 0; g < groups; ++g) {
      const float s = scales[g];
      for (int64_t i = l.group_begin(static_cast<int64_t>(g));
           i < l.group_end(static_cast<int64_t>(g)); ++i) {
        codes[static_cast<size_t>(i)] = static_cast<uint8_t>(s != 0 ? nearest(x[i] / s) : 7);
      }
    }
    store_codes(l, job.to, job.row + r, codes);
  }
}

}  // namespace

void encode_rtn(const RowJob& job) {
  switch (job.encoding.kind) {
    case EncodingKind::kInt:
      return encode_int(job);
    case EncodingKind::kNf4:
      return encode_nf4(job);
    default:
      return encode_minmax(job);  // floats: the range is the grid
  }
}

}  // namespace pith
