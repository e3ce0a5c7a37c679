#include "quant/gptq.h"

#include <algorithm>
#include <cmath>

#include "core/bytes.h"
#include "core/error.h"
#include "core/linalg.h"
#include "core/parallel.h"
#include "quant/gptq_backends.h"
#include "quant/gptq_rows.h"
#include "quant/tcq_search.h"
#include "runtime/cpu/kernels.h"

namespace pith {
namespace {

class HostGptq final : public GptqFactor {
 public:
  GptqLoss encode(const GptqOptions& options, const RowJob& job) const override;

  struct Panel : Block {
    Buffer<float> feedback = {};  // [end, width]: columns [begin, end) of U
    Buffer<float> gram = {};      // [k, width]: the same of H
  };
  std::vector<Panel> panels;                 // of blocks
  std::vector<Buffer<float>> group_inverse;  // of the piece of U of each group: [width, width]

 protected:
  void set_gram(const Matrix<double>& gram) override;
  void set_factor(const Matrix<double>& factor) override;
};

// to = inverse of the unit upper triangular u [n, n] (row stride `stride`).
void invert_unit_upper(int64_t n, const float* u, int64_t stride, float* to) {
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t i = n - 1; i >= 0; --i) {
      double sum = i == j ? 1 : 0;
      for (int64_t p = i + 1; p <= j; ++p)
        sum -= static_cast<double>(u[i * stride + p]) * static_cast<double>(to[p * n + j]);
      to[i * n + j] = i > j ? 0.0f : static_cast<float>(sum);
    }
  }
}

void HostGptq::set_gram(const Matrix<double>& gram) {
  const double* h = gram.data();
  for (const auto& block : blocks) {
    Panel& b = panels.emplace_back(Panel{block});
    b.gram = Buffer<float>(k * b.width());
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = 0; j < b.width(); ++j)
        b.gram[i * b.width() + j] = static_cast<float>(h[i * k + b.begin + j]);
    }
  }
}

void HostGptq::set_factor(const Matrix<double>& factor) {
  const double* u = factor.data();
  for (int64_t i = 0; i < k; ++i)
    variance[static_cast<size_t>(i)] = static_cast<float>(u[i * k + i] * u[i * k + i]);
  for (auto& b : panels) {
    b.feedback = Buffer<float>(b.end * b.width());
    for (int64_t i = 0; i < b.end; ++i) {
      for (int64_t j = 0; j < b.width(); ++j) {
        const int64_t column = b.begin + j;
        b.feedback[i * b.width() + j] =
            i > column ? 0.0f : static_cast<float>(u[i * k + column] / u[column * k + column]);
      }
    }
  }
  group_inverse.resize(groups.size());
  parallel_for(static_cast<int64_t>(groups.size()), [&](int64_t i) {
    const auto& g = groups[static_cast<size_t>(i)];
    const int64_t n = g.end - g.begin;
    // Wider than a block: its scale is that of the original weights.
    if (n > kBlock) return;
    const auto b = std::ranges::find_if(
        panels, [&](const Panel& p) { return p.begin <= g.begin && g.end <= p.end; });
    auto& to = group_inverse[static_cast<size_t>(i)];
    to = Buffer<float>(n * n);
    invert_unit_upper(n, b->feedback.data() + g.begin * b->width() + g.begin - b->begin, b->width(),
                      to.data());
  });
}

// Some rows in the making.
class Tile : private GptqRows {
 public:
  Tile(const HostGptq& f, const GptqOptions& options, const RowJob& job, int64_t first,
       int64_t rows)
      : GptqRows(f, job, first, rows),
        host_(f),
        options_(options),
        top_(static_cast<float>((1 << job.encoding.bits) - 1)),
        kernels_(cpu_kernels()),
        grid_(grid_kernels()),
        error_(lanes_ * f.k) {
    load();
    if (job.encoding.two_level) fix_largest_scales();
  }

  GptqLoss run() {
    if (job_.encoding.kind == EncodingKind::kTcq) {
      find_paths();
    } else {
      sweep();
      refine_rows(*this, options_.refine, has_own_scales(job_.encoding));
    }
    store();
    return loss();
  }

  void find_paths() {
    windows_.resize(static_cast<size_t>(rows_ * f_.k));
    for (size_t g = 0; g < f_.groups.size(); ++g) {
      const auto& group = f_.groups[g];
      choose_scales(g, original_.data() + group.begin, f_.k, f_.variance.data() + group.begin,
                    true);
    }
    const auto round = [&](int survivors) {
      for (int64_t first = 0; first < f_.k; first += kTcqPiece) find_piece(first, survivors);
      refit();
    };
    if (options_.refine == 0) return round(16);
    round(64);
    round(128);
  }

  // Columns [first, first + kTcqPiece) of all rows, with a look at some of the next.
  void find_piece(int64_t first, int survivors) {
    const int64_t columns = std::min(kTcqColumns, f_.k - first),
                  decided = std::min(kTcqPiece, f_.k - first);
    thread_local Buffer<float> targets, feedback;
    targets.require(rows_ * columns);
    feedback.require(kTcqColumns * kTcqColumns);
    for (int64_t r = 0; r < rows_; ++r)
      std::copy_n(original_.data() + r * f_.k + first, columns, targets.data() + r * columns);
    for (const auto& b : host_.panels) {
      const int64_t begin = std::max(first, b.begin), end = std::min(first + columns, b.end);
      if (begin >= end) continue;
      const float* const u = b.feedback.data() + begin - b.begin;
      kernels_.gemm(rows_, end - begin, first, error_.data(), f_.k, u, b.width(),
                    targets.data() + begin - first, columns, true);
      for (int64_t i = first; i < end; ++i) {
        std::copy_n(u + i * b.width(), end - begin,
                    feedback.data() + (i - first) * kTcqColumns + begin - first);
      }
    }
    uint16_t found[kTcqColumns];
    float scales[kTcqColumns];
    for (int64_t r = 0; r < rows_; ++r) {
      const int64_t row = r * f_.k + first;
      size_t g = 0;
      for (int64_t i = 0; i < columns; ++i) {
        while (f_.groups[g].end <= first + i) ++g;
        scales[i] = scale_[scale_index(g, r)];
      }
      const int32_t before = first == 0 ? -1 : windows_[static_cast<size_t>(row - 1)];
      search_windows({.bits = job_.encoding.bits,
                      .columns = columns,
                      .original = original_.data() + row,
                      .target = targets.data() + r * columns,
                      .scale = scales,
                      .cost = f_.variance.data() + first,
                      .feedback = feedback.data(),
                      .survivors = survivors},
                     before, found);
      for (int64_t i = 0; i < decided; ++i) {
        windows_[static_cast<size_t>(row + i)] = found[i];
        codes_[row + i] = tcq_code(found[i]);
        error_[row + i] = original_[row + i] - scales[i] * (codes_[row + i] - kTcqZero);
      }
    }
  }

  // [rows][columns] at a stride, to [columns][lanes], and back.
  void to_lanes(const float* from, int64_t stride, int64_t columns, float* to) const {
    for (int64_t p = 0; p < columns; ++p) {
      for (int64_t r = 0; r < lanes_; ++r)
        to[p * lanes_ + r] = r < rows_ ? from[r * stride + p] : 0;
    }
  }
  void from_lanes(const float* from, int64_t columns, int64_t stride, float* to) const {
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t p = 0; p < columns; ++p) to[r * stride + p] = from[p * lanes_ + r];
    }
  }

  // The mask of the columns of a block: 1 where a weight is kept; null where there is none.
  const float* kept_lanes(const GptqFactor::Block& b, Buffer<float>* to) const {
    if (kept_.empty()) return nullptr;
    to_lanes(kept_.data() + b.begin, f_.k, b.width(), to->data());
    return to->data();
  }

  void set_scales(size_t g) {
    for (int64_t r = 0; r < lanes_; ++r) {
      const auto at = scale_index(g, r);
      lane_scale_[r] = scale_[at];
      lane_zero_[r] = zero_[at];
      lane_inverse_[r] = scale_[at] != 0 ? 1 / scale_[at] : 0;
    }
  }

  void sweep() {
    thread_local Buffer<float> rows, lanes, original, codes, error, free, kept;
    for (auto* b : {&rows, &lanes, &original, &codes, &error, &free, &kept})
      b->require(lanes_ * GptqFactor::kBlock);
    std::vector<float> loss(static_cast<size_t>(lanes_));
    size_t g = 0;
    const bool fixed = options_.static_groups;
    for (size_t i = 0; i < f_.groups.size(); ++i) {
      const auto& group = f_.groups[i];
      if (fixed || group.end - group.begin > GptqFactor::kBlock) {
        choose_scales(i, original_.data() + group.begin, f_.k, f_.variance.data() + group.begin,
                      options_.search);
      }
    }
    for (const auto& b : host_.panels) {
      const int64_t width = b.width();
      for (int64_t r = 0; r < rows_; ++r) {
        std::copy(original_.data() + r * f_.k + b.begin, original_.data() + r * f_.k + b.end,
                  rows.data() + r * width);
      }
      kernels_.gemm(rows_, width, b.begin, error_.data(), f_.k, b.feedback.data(), width,
                    rows.data(), width, true);
      to_lanes(rows.data(), width, width, lanes.data());
      to_lanes(original_.data() + b.begin, f_.k, width, original.data());
      const float* const keeps = kept_lanes(b, &kept);
      for (int64_t p = b.begin; p < b.end;) {
        while (f_.groups[g].end <= p) ++g;
        const auto& group = f_.groups[g];
        const int64_t end = std::min(b.end, group.end), n = end - p;
        if (!fixed && group.end - group.begin <= GptqFactor::kBlock) {
          // With errors e so far the loss is least at w + e U_SF inverse(U_FF).
          from_lanes(lanes.data() + (p - b.begin) * lanes_, n, n, rows.data());
          for (int64_t r = 0; r < rows_; ++r) {
            const float* w = original_.data() + r * f_.k + p;
            for (int64_t i = 0; i < n; ++i) {
              rows[r * n + i] -= w[i];
              free[r * n + i] = w[i];
            }
          }
          kernels_.gemm(rows_, n, n, rows.data(), n, host_.group_inverse[g].data(), n, free.data(),
                        n, true);
          choose_scales(g, free.data(), n, f_.variance.data() + p, options_.search);
        }
        set_scales(g);
        grid_.sweep({levels_, lanes_, p - b.begin, end - b.begin, width, lanes.data(),
                     original.data(), b.feedback.data() + b.begin * width, width,
                     f_.variance.data() + b.begin, lane_scale_, lane_inverse_, lane_zero_, top_,
                     codes.data(), error.data(), loss.data(), keeps});
        p = end;
      }
      from_lanes(codes.data(), width, f_.k, codes_.data() + b.begin);
      from_lanes(error.data(), width, f_.k, error_.data() + b.begin);
    }
  }

  float level(int64_t r, size_t g, int64_t p) const {  // code - zero
    return codes_[r * f_.k + p] - zero_[scale_index(g, r)];
  }
  void recompute_error() {
    for (size_t g = 0; g < f_.groups.size(); ++g) {
      for (int64_t r = 0; r < rows_; ++r) {
        const float s = scale_[scale_index(g, r)];
        for (int64_t p = f_.groups[g].begin; p < f_.groups[g].end; ++p)
          error_[r * f_.k + p] = original_[r * f_.k + p] - s * level(r, g, p);
      }
    }
  }

  // to[rows, k] = from[rows, columns [begin, end)] H[those, :]
  void times_gram(const float* from, int64_t stride, int64_t begin, int64_t end, float* to) const {
    for (const auto& b : host_.panels) {
      kernels_.gemm(rows_, b.width(), end - begin, from, stride, b.gram.data() + begin * b.width(),
                    b.width(), to + b.begin, f_.k, false);
    }
  }

  // Per row: min over s of (w - sum_g s_g d_g) H (..)^T.
  void refit() {
    const auto groups = static_cast<int64_t>(f_.groups.size());
    thread_local Buffer<float> levels, product;
    levels.require(rows_ * f_.k);
    product.require(rows_ * f_.k);
    Buffer<double> normal(rows_ * groups * groups), right(rows_ * groups);
    for (int64_t g = 0; g < groups; ++g) {
      const auto& group = f_.groups[static_cast<size_t>(g)];
      for (int64_t r = 0; r < rows_; ++r) {
        for (int64_t p = group.begin; p < group.end; ++p)
          levels[r * f_.k + p] = level(r, static_cast<size_t>(g), p);
      }
    }
    for (int64_t g = 0; g < groups; ++g) {
      const auto& group = f_.groups[static_cast<size_t>(g)];
      times_gram(levels.data() + group.begin, f_.k, group.begin, group.end, product.data());
      for (int64_t r = 0; r < rows_; ++r) {
        const float* y = product.data() + r * f_.k;
        const float* w = original_.data() + r * f_.k;
        double with_original = 0;
        for (int64_t p = 0; p < f_.k; ++p)
          with_original += static_cast<double>(y[p]) * static_cast<double>(w[p]);
        right[r * groups + g] = with_original;
        for (int64_t h = 0; h < groups; ++h) {
          const auto& other = f_.groups[static_cast<size_t>(h)];
          double sum = 0;
          for (int64_t p = other.begin; p < other.end; ++p)
            sum += static_cast<double>(y[p]) * static_cast<double>(levels[r * f_.k + p]);
          normal[(r * groups + g) * groups + h] = sum;
        }
      }
    }
    for (int64_t r = 0; r < rows_; ++r)
      refit_row(r, &normal[r * groups * groups], &right[r * groups]);
    recompute_error();
  }

  void refit_row(int64_t r, double* a, double* b) {
    const auto groups = static_cast<int64_t>(f_.groups.size());
    const auto n = static_cast<size_t>(groups);
    const std::vector<double> normal(a, a + n * n), right(b, b + n);
    std::vector<double> now(n), next(n);
    for (size_t g = 0; g < n; ++g) {
      now[g] = static_cast<double>(scale_[scale_index(g, r)]);
      if (!(a[g * n + g] > 0)) {  // no code of it is off its zero: any scale will do
        a[g * n + g] = 1;
        b[g] = now[g];
      }
    }
    if (!upper_cholesky(groups, a)) return;
    solve_upper(groups, a, true, 1, b);
    solve_upper(groups, a, false, 1, b);
    for (size_t g = 0; g < n; ++g) {
      const float s = as_stored(r, static_cast<float>(b[g]));
      if (!std::isfinite(s) || (levels_ != Levels::kIntegers && s < 0)) return;
      next[g] = static_cast<double>(s);
    }
    // Without the constant w H w^T.
    const auto loss = [&](const std::vector<double>& s) {
      double sum = 0;
      for (size_t g = 0; g < n; ++g) {
        double row = -2 * right[g];
        for (size_t h = 0; h < n; ++h) row += normal[g * n + h] * s[h];
        sum += s[g] * row;
      }
      return sum;
    };
    if (!(loss(next) < loss(now))) return;
    for (size_t g = 0; g < n; ++g) scale_[scale_index(g, r)] = static_cast<float>(next[g]);
  }

  void descend() {
    thread_local Buffer<float> rows, gradient, value, codes, kept;
    for (auto* b : {&rows, &gradient, &value, &codes, &kept})
      b->require(lanes_ * GptqFactor::kBlock);
    size_t g = 0;
    for (const auto& b : host_.panels) {
      const int64_t width = b.width();
      // value - original is -error
      kernels_.gemm(rows_, width, f_.k, error_.data(), f_.k, b.gram.data(), width, rows.data(),
                    width, false);
      for (int64_t i = 0; i < rows_ * width; ++i) rows[i] = -rows[i];
      to_lanes(rows.data(), width, width, gradient.data());
      for (int64_t r = 0; r < rows_; ++r) {
        for (int64_t p = 0; p < width; ++p) {
          const int64_t at = r * f_.k + b.begin + p;
          rows[r * width + p] = original_[at] - error_[at];
        }
      }
      to_lanes(rows.data(), width, width, value.data());
      const float* const keeps = kept_lanes(b, &kept);
      for (int64_t p = b.begin; p < b.end;) {
        while (f_.groups[g].end <= p) ++g;
        const int64_t end = std::min(b.end, f_.groups[g].end);
        set_scales(g);
        grid_.descend({levels_, lanes_, p - b.begin, end - b.begin, width, gradient.data(),
                       value.data(), codes.data(), b.gram.data() + b.begin * width, width,
                       lane_scale_, lane_inverse_, lane_zero_, top_, keeps});
        p = end;
      }
      from_lanes(codes.data(), width, f_.k, codes_.data() + b.begin);
      from_lanes(value.data(), width, width, rows.data());
      for (int64_t r = 0; r < rows_; ++r) {
        for (int64_t p = 0; p < width; ++p) {
          const int64_t at = r * f_.k + b.begin + p;
          error_[at] = original_[at] - rows[r * width + p];
        }
      }
    }
  }

  GptqLoss loss() const {
    thread_local Buffer<float> product;
    product.require(rows_ * f_.k);
    GptqLoss out;
    const auto sum = [&](const Buffer<float>& x) {
      times_gram(x.data(), f_.k, 0, f_.k, product.data());
      double total = 0;
      for (int64_t r = 0; r < rows_; ++r) {
        double row = 0;
        for (int64_t p = 0; p < f_.k; ++p)
          row += static_cast<double>(product[r * f_.k + p]) * static_cast<double>(x[r * f_.k + p]);
        total += std::ldexp(row, 2 * exponent_[static_cast<size_t>(r)]);
      }
      return total;
    };
    out.error = sum(error_);
    out.norm = sum(original_);
    return out;
  }

 private:
  const HostGptq& host_;
  const GptqOptions& options_;
  float top_;
  const CpuKernels& kernels_;
  const GridKernels& grid_;
  Buffer<float> error_;  // [rows, k] by place: original - value
  float lane_scale_[kMaxLanes], lane_zero_[kMaxLanes], lane_inverse_[kMaxLanes];
};

GptqLoss HostGptq::encode(const GptqOptions& options, const RowJob& job) const {
  if (job.encoding.is_sparse() && job.mask.empty()) {
    const auto mask = magnitude_mask(job.encoding.sparsity, job.k, job.rows, job.w);
    RowJob masked = job;
    masked.mask = mask;
    return encode(options, masked);
  }
  if (is_fp8(job.encoding)) encode_minmax(job);  // which sets the scales
  constexpr int64_t kRows = 48;                  // 4 tiles of the matrix kernel, 3 vectors of lanes
  std::vector<GptqLoss> losses(static_cast<size_t>(ceil_div(job.rows, kRows)));
  parallel_ranges(job.rows, kRows, [&](int64_t begin, int64_t end) {
    losses[static_cast<size_t>(begin / kRows)] =
        Tile(*this, options, job, begin, end - begin).run();
  });
  GptqLoss all;
  for (const auto& l : losses) all += l;
  return all;
}

}  // namespace

std::unique_ptr<GptqFactor> gptq_on_host() { return std::make_unique<HostGptq>(); }

bool gptq_takes(const Encoding& e) {
  if (e.is_sparse()) {
    // A scale has the same columns in every row: that of the whole row, or of whole groups of n:m.
    const Encoding inner = e.inner();
    const bool row =
        inner.kind == EncodingKind::kFp8 ? inner.area != ScaleArea::kBlock128 : inner.group == 0;
    const bool whole = e.sparsity.kind == SparsityKind::kNM && inner.kind != EncodingKind::kFp8 &&
                       inner.group % e.sparsity.kept == 0;
    return gptq_takes(inner) && (row || whole);
  }
  return e.kind == EncodingKind::kFp8 || e.has_group_scales();
}

bool gains_from_gptq(const Encoding& e) {
  return gptq_takes(e) && (e.kind == EncodingKind::kNf4 || e.kind == EncodingKind::kTcq ||
                           (e.kind == EncodingKind::kInt && e.bits <= 5));
}

GptqOptions options_for(const Encoding& e, const GptqOptions& options) {
  GptqOptions out = options;
  if (e.kind == EncodingKind::kTcq) out.order = false;
  return out;
}

int64_t gptq_group(const Encoding& e, int64_t k) {
  if (e.is_sparse()) {
    const int64_t stored = gptq_group(e.inner(), 0);  // values; 0: the row
    return stored == 0 || e.sparsity.kind != SparsityKind::kNM
               ? k
               : stored / e.sparsity.kept * e.sparsity.of;
  }
  if (e.kind == EncodingKind::kFp8) return e.area == ScaleArea::kBlock128 ? 128 : k;
  return e.group == 0 ? k : e.group;
}

}  // namespace pith
