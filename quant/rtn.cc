// Rounding to nearest on a grid that is searched for: see group_search.h. Rows are searched at
// magnitudes near 1; the codes are then chosen again for the scale as it is stored.
//
// Weights: w_i = channel weight (mean square of the input) where calibration ran, else magnitude:
// 3 rms + |x_i|.

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/error.h"
#include "formats/encodings/tcq.h"
#include "quant/group_search.h"
#include "quant/method.h"

namespace pith {
namespace {

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
    const int exponent = scale_row(x, job.k, scaled.data());
    fill_weights(job, scaled.data(), &weights);
    for (size_t g = 0; g < groups; ++g) {
      const int64_t begin = l.group_begin(static_cast<int64_t>(g)),
                    end = l.group_end(static_cast<int64_t>(g));
      const GridChoice c = search.run(scaled.data() + begin, weights.data() + begin, end - begin);
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
    store_row(job, l, r, scales, zeros, codes);
  }
}

// nf4: the scale over shrunken ranges, refined by least squares.
void encode_nf4(const RowJob& job) {
  const Encoding& e = job.encoding;
  const GroupLayout l(e, job.n, job.k);
  const auto groups = static_cast<size_t>(l.groups);
  std::vector<float> scales(groups), weights(static_cast<size_t>(job.k)), scaled(weights.size());
  std::vector<uint8_t> codes(static_cast<size_t>(job.k));
  for (int64_t r = 0; r < job.rows; ++r) {
    const float* x = job.w + r * job.k;
    const int exponent = scale_row(x, job.k, scaled.data());
    fill_weights(job, scaled.data(), &weights);
    for (size_t g = 0; g < groups; ++g) {
      const int64_t begin = l.group_begin(static_cast<int64_t>(g)),
                    end = l.group_end(static_cast<int64_t>(g));
      const float scale = search_nf4(scaled.data() + begin, weights.data() + begin, end - begin);
      scales[g] = std::ldexp(scale, exponent);
    }
    store_scales(e, l, job.to, job.row + r, scales);
    for (size_t g = 0; g < groups; ++g) {
      const float s = scales[g];
      for (int64_t i = l.group_begin(static_cast<int64_t>(g));
           i < l.group_end(static_cast<int64_t>(g)); ++i) {
        codes[static_cast<size_t>(i)] = s != 0 ? nearest_nf4(x[i] / s) : uint8_t{7};
      }
    }
    store_row(job, l, r, scales, {}, codes);
  }
}

void encode_mx(const RowJob& job) {
  const GroupLayout l(job.encoding, job.n, job.k);
  std::vector<float> scales(static_cast<size_t>(l.groups)), weights(static_cast<size_t>(job.k));
  std::vector<uint8_t> codes(weights.size());
  for (int64_t r = 0; r < job.rows; ++r) {
    const float* x = job.w + r * job.k;
    fill_weights(job, x, &weights);
    for (int64_t g = 0; g < l.groups; ++g) {
      const int64_t begin = l.group_begin(g), end = l.group_end(g);
      const int exponent = mx_exponent(x + begin, weights.data() + begin, end - begin);
      scales[static_cast<size_t>(g)] = std::ldexp(1.0f, exponent);
      for (int64_t i = begin; i < end; ++i)
        codes[static_cast<size_t>(i)] = nearest_e2m1(std::ldexp(x[i], -exponent));
    }
    store_scales(job.encoding, l, job.to, job.row + r, scales);
    store_row(job, l, r, scales, {}, codes);
  }
}

// Trellis codes: a path for scales that fit the deviation of each group, then another for those that
// lose least with the first.
void encode_tcq(const RowJob& job) {
  const Encoding& e = job.encoding;
  const GroupLayout l(e, job.n, job.k);
  const auto k = static_cast<size_t>(job.k);
  std::vector<float> scales(static_cast<size_t>(l.groups)), weights(k), scaled(k), of_columns(k);
  std::vector<uint16_t> windows(k);
  for (int64_t r = 0; r < job.rows; ++r) {
    const int exponent = scale_row(job.w + r * job.k, job.k, scaled.data());
    fill_weights(job, scaled.data(), &weights);
    for (int64_t g = 0; g < l.groups; ++g) {
      const int64_t begin = l.group_begin(g), n = l.group_end(g) - begin;
      scales[static_cast<size_t>(g)] =
          tcq_scale(e.bits, scaled.data() + begin, weights.data() + begin, n);
    }
    const auto search = [&] {
      for (float& s : scales) s = std::ldexp(s, exponent);
      store_scales(e, l, job.to, job.row + r, scales);
      for (float& s : scales) s = std::ldexp(s, -exponent);
      for (int64_t i = 0; i < job.k; ++i)
        of_columns[static_cast<size_t>(i)] = scales[static_cast<size_t>(i / l.group)];
      search_row(e.bits, 128, job.k, scaled.data(), of_columns.data(), weights.data(),
                 windows.data());
    };
    search();
    for (int64_t g = 0; g < l.groups; ++g) {
      double xd = 0, dd = 0;
      for (auto i = static_cast<size_t>(l.group_begin(g)); i < static_cast<size_t>(l.group_end(g));
           ++i) {
        const auto d = static_cast<double>(tcq_code(windows[i]) - kTcqZero),
                   w = static_cast<double>(weights[i]);
        xd += w * static_cast<double>(scaled[i]) * d;
        dd += w * d * d;
      }
      if (xd > 0) scales[static_cast<size_t>(g)] = static_cast<float>(xd / dd);
    }
    search();
    for (float& s : scales) s = std::ldexp(s, exponent);
    store_tcq_row(job, l, r, scales, windows);
  }
}

}  // namespace

void encode_rtn(const RowJob& job) {
  switch (job.encoding.kind) {
    case EncodingKind::kInt:
      return encode_int(job);
    case EncodingKind::kNf4:
      return encode_nf4(job);
    case EncodingKind::kMx:
      return encode_mx(job);
    case EncodingKind::kTcq:
      return encode_tcq(job);
    default:
      return encode_minmax(job);  // floats: the range is the grid
  }
}

}  // namespace pith
