// Rounding to nearest on a grid that is searched for: see group_search.h. Rows are searched at
// magnitudes near 1; the codes are then chosen again for the scale as it is stored.
//
// Weights: w_i = channel weight (mean square of the input) where calibration ran, else magnitude:
// 3 rms + |x_i|.

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/buffer.h"
#include "core/error.h"
#include "formats/encodings/tcq.h"
#include "quant/group_search.h"
#include "quant/method.h"
#include "quant/tcq_search.h"

namespace pith {
namespace {

// The weights of row r of the job, x [k].
void fill_weights(const RowJob& job, int64_t r, const float* x, std::vector<float>* weights) {
  if (job.channel_weight != nullptr) {
    const float* const of_row = job.channel_weight + r * job.weight_stride;
    std::copy(of_row, of_row + job.k, weights->begin());
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

// One group: its weights, and its scale and zero as they are stored.
struct StoredGroup {
  const float* x;
  int64_t n;
  float scale, zero;
  uint8_t* codes;  // out
};

// `search(x, weights, n)` finds the scale and zero of each group, and `code(group)` the codes for
// them as they are stored. x is scaled to magnitudes near 1 where the type of the scales is a
// float.
template <class Search, class Code>
void encode_groups(const RowJob& job, Search search, Code code) {
  const Encoding& e = job.encoding;
  const GroupLayout l(e, job.n, job.k);
  const auto groups = static_cast<size_t>(l.groups);
  std::vector<float> scales(groups), weights(static_cast<size_t>(job.k)), scaled(weights.size());
  std::vector<uint8_t> zeros(groups), codes(weights.size());
  thread_local Buffer<float> masked;
  const float* const rows = masked_rows(job, &masked);
  for (int64_t r = 0; r < job.rows; ++r) {
    const float* x = rows + r * job.k;
    int exponent = 0;
    if (e.kind == EncodingKind::kMx) {
      std::copy(x, x + job.k, scaled.begin());
    } else {
      exponent = scale_row(x, job.k, scaled.data());
    }
    fill_weights(job, r, scaled.data(), &weights);
    for (int64_t g = 0; g < l.groups; ++g) {
      const int64_t begin = l.group_begin(g), n = l.group_end(g) - begin;
      const GridChoice c = search(scaled.data() + begin, weights.data() + begin, n);
      scales[static_cast<size_t>(g)] = std::ldexp(c.scale, exponent);
      zeros[static_cast<size_t>(g)] = static_cast<uint8_t>(c.zero);
    }
    store_scales(e, l, job.to, job.row + r, scales);
    for (int64_t g = 0; g < l.groups; ++g) {
      const int64_t begin = l.group_begin(g);
      code(StoredGroup{x + begin, l.group_end(g) - begin, scales[static_cast<size_t>(g)],
                       static_cast<float>(zeros[static_cast<size_t>(g)]), codes.data() + begin});
    }
    store_row(job, l, r, scales, zeros, codes);
  }
}

void encode_int(const RowJob& job) {
  const GridKernels& grid = grid_kernels();
  GroupSearch search(job.encoding, grid);
  const auto top = static_cast<float>((1 << job.encoding.bits) - 1);
  encode_groups(
      job, [&](const float* x, const float* w, int64_t n) { return search.run(x, w, n); },
      [&](const StoredGroup& g) {
        const float inverse = g.scale != 0 ? 1 / g.scale : 0;
        grid.codes(g.x, g.n, inverse, -g.zero, top - g.zero, g.codes);
      });
}

// nf4: the scale over shrunken ranges, refined by least squares.
void encode_nf4(const RowJob& job) {
  encode_groups(
      job,
      [](const float* x, const float* w, int64_t n) {
        return GridChoice{.scale = search_nf4(x, w, n)};
      },
      [](const StoredGroup& g) {
        for (int64_t i = 0; i < g.n; ++i)
          g.codes[i] = g.scale != 0 ? nearest_nf4(g.x[i] / g.scale) : uint8_t{7};
      });
}

void encode_mx(const RowJob& job) {
  encode_groups(
      job,
      [](const float* x, const float* w, int64_t n) {
        return GridChoice{.scale = std::ldexp(1.0f, mx_exponent(x, w, n))};
      },
      [](const StoredGroup& g) {
        const int exponent = std::ilogb(g.scale);  // a power of two
        for (int64_t i = 0; i < g.n; ++i) g.codes[i] = nearest_e2m1(std::ldexp(g.x[i], -exponent));
      });
}

// Trellis codes: a path for scales that fit the deviation of each group, then another for those
// that lose least with the first.
void encode_tcq(const RowJob& job, int survivors, bool refits) {
  if (!job.mask.empty())
    fail(ErrorKind::kUnsupported, "trellis codes have no exact zeros for weights that were pruned");
  const Encoding& e = job.encoding;
  const GroupLayout l(e, job.n, job.k);
  const auto k = static_cast<size_t>(job.k);
  std::vector<float> scales(static_cast<size_t>(l.groups)), weights(k), scaled(k), of_columns(k);
  std::vector<uint16_t> windows(k);
  for (int64_t r = 0; r < job.rows; ++r) {
    const int exponent = scale_row(job.w + r * job.k, job.k, scaled.data());
    fill_weights(job, r, scaled.data(), &weights);
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
      search_windows_of_row(e.bits, survivors, job.k, scaled.data(), of_columns.data(),
                            weights.data(), windows.data());
    };
    search();
    for (int64_t g = 0; refits && g < l.groups; ++g) {
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
    if (refits) search();
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
      return encode_tcq(job, 128, true);
    case EncodingKind::kSparse:
      return encode_kept(job, encode_rtn);
    default:
      return encode_minmax(job);  // floats: the range is the grid
  }
}

void encode_rtn_quickly(const RowJob& job) {
  const EncodingKind kind = job.encoding.kind;
  if (kind == EncodingKind::kTcq) return encode_tcq(job, 16, false);
  if (kind == EncodingKind::kSparse) return encode_kept(job, encode_rtn_quickly);
  encode_rtn(job);
}

}  // namespace pith
