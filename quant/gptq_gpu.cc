#include "quant/gptq_backends.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/parallel.h"
#include "quant/gptq_rows.h"
#include "runtime/cuda/gpu_algebra.h"

namespace pith {
namespace {

using cuda::Ops;

template <class T>
GpuBuffer table(GpuDevice& device, const std::vector<T>& from) {
  return {device, from.data(), from.size() * sizeof(T)};
}

constexpr int64_t kHostRows = 48;  // that a thread stores as one piece

// The same loss as on the host up to rounding, not the same bits: sums have another order, and
// which of two scales that are as good is chosen can depend on a last bit.
class GpuGptq final : public GptqFactor {
 public:
  explicit GpuGptq(GpuAlgebra& to) : algebra(to) {}

  GptqLoss encode(const GptqOptions& options, const RowJob& job) const override;

  GpuAlgebra& algebra;
  Matrix<float> damped_gram, feedback;       // H; U, unit upper triangular
  GpuBuffer place_variance;                  // [k]
  GpuBuffer columns, group_of, first_place;  // [k], [k], [groups + 1]

 protected:
  void set_gram(const Matrix<double>& gram) override {
    const std::vector<int32_t> order32(order.begin(), order.end());
    std::vector<int32_t> group, starts;
    for (const auto& g : groups) {
      group.insert(group.end(), static_cast<size_t>(g.end - g.begin),
                   static_cast<int32_t>(starts.size()));
      starts.push_back(static_cast<int32_t>(g.begin));
    }
    starts.push_back(static_cast<int32_t>(k));
    columns = table(algebra.gpu(), order32);
    group_of = table(algebra.gpu(), group);
    first_place = table(algebra.gpu(), starts);
    damped_gram = Matrix<float>(algebra, k, k);
    algebra.convert(gram, damped_gram);
    algebra.gpu().wait();
  }
  void set_factor(const Matrix<double>& factor) override {
    feedback = Matrix<float>(algebra, k, k);
    place_variance = GpuBuffer(algebra.gpu(), variance.size() * sizeof(float));
    algebra.gpu().run(&Ops::unit_upper,
                      {factor.data(), k, feedback.data(), place_variance.data<float>()});
    algebra.gpu().download(variance.data(), place_variance.data(), place_variance.bytes());
  }
};

// Some rows in the making, [places, rows].
class Rows {
 public:
  Rows(const GpuGptq& f, const GptqOptions& options, const RowJob& job)
      : f_(f),
        algebra_(f.algebra),
        device_(f.algebra.gpu()),
        options_(options),
        job_(job),
        groups_(static_cast<int64_t>(f.groups.size())),
        n_(job.rows),
        original_(algebra_, f.k, n_),
        error_(algebra_, f.k, n_),
        codes_(algebra_, f.k, n_),
        product_(algebra_, f.k, n_),
        scale_(algebra_, groups_, n_),
        zero_(algebra_, groups_, n_),
        exponent_(device_, static_cast<uint64_t>(n_) * sizeof(int32_t)) {
    r_ = {n_,
          f.k,
          levels_of(job.encoding),
          job.encoding.bits,
          job.encoding.symmetric,
          is_fp8(job.encoding)                 ? NumberFormat::kF32
          : job.encoding.scale == DType::kBF16 ? NumberFormat::kBF16
                                               : NumberFormat::kF16,
          f_.group_of.data<int32_t>(),
          exponent_.data<int32_t>(),
          original_.data(),
          error_.data(),
          codes_.data(),
          scale_.data(),
          zero_.data()};
    const Matrix<float> w(algebra_, n_, f.k, job.w);
    device_.run(&Ops::load_rows, {w.data(), n_, f.k, f_.columns.data<int32_t>(),
                                  exponent_.data<int32_t>(), original_.data()});
  }

  GptqLoss run() {
    const bool own_scales = has_own_scales(job_.encoding);
    const bool wide = std::ranges::any_of(
        f_.groups, [](const auto& g) { return g.end - g.begin > GptqFactor::kBlock; });
    const bool given = is_fp8(job_.encoding) || options_.static_groups || wide;
    if (given) set_scales();
    sweep(given             ? cuda::ScaleFrom::kGiven
          : options_.search ? cuda::ScaleFrom::kSearch
                            : cuda::ScaleFrom::kRange);
    target_ = {};
    gram_original_ = Matrix<float>(algebra_, f_.k, n_);
    times_gram(original_, gram_original_);
    refine_rows(*this, options_.refine, own_scales);
    read_exponents();
    GptqLoss loss;
    loss.norm = loss_of(gram_original_, original_);
    times_gram(error_, product_);
    loss.error = loss_of(product_, error_);
    store();
    return loss;
  }

  // to = H from
  void times_gram(const Matrix<float>& from, Matrix<float>& to) {
    algebra_.gemm(1, f_.damped_gram, from, 0, to);
  }

  // From the original weights.
  void set_scales() {
    Buffer<float> scale(groups_ * n_), zero(groups_ * n_);
    parallel_ranges(n_, kHostRows, [&](int64_t begin, int64_t end) {
      GptqRows rows(f_, job_, begin, end - begin);
      rows.load();
      for (size_t g = 0; g < f_.groups.size(); ++g) {
        const auto& group = f_.groups[g];
        rows.choose_scales(g, rows.original_.data() + group.begin, f_.k,
                           f_.variance.data() + group.begin, options_.search);
        for (int64_t r = 0; r < end - begin; ++r) {
          const int64_t at = static_cast<int64_t>(g) * n_ + begin + r;
          scale[at] = rows.scale_[rows.scale_index(g, r)];
          zero[at] = rows.zero_[rows.scale_index(g, r)];
        }
      }
    });
    device_.upload(scale_.data(), scale.data(), scale_.bytes());
    device_.upload(zero_.data(), zero.data(), zero_.bytes());
    device_.wait();
  }

  void sweep(cuda::ScaleFrom from) {
    target_ = Matrix<float>(algebra_, GptqFactor::kBlock, n_);
    for (const auto& b : f_.blocks) {
      algebra_.gemm(1, f_.feedback.ref().block(0, b.begin, b.begin, b.width()).t(),
                    error_.row_block(0, b.begin), 0, target_.row_block(0, b.width()));
      device_.run(&Ops::sweep, {r_, b.begin, b.end, from, target_.data(), f_.feedback.data(),
                                f_.place_variance.data<float>()});
    }
  }

  void refit() {
    if (levels_.empty()) {
      levels_ = Matrix<float>(algebra_, f_.k, n_);
      normal_ = Matrix<double>(algebra_, groups_ * groups_, n_);
      right_ = Matrix<double>(algebra_, groups_, n_);
      next_ = Matrix<double>(algebra_, groups_, n_);
      diagonal_ = Matrix<double>(algebra_, groups_, n_);
    }
    device_.run(&Ops::from_codes, {r_, levels_.data()});
    const auto* const starts = f_.first_place.data<int32_t>();
    device_.run(&Ops::column_sums,
                {gram_original_.data(), levels_.data(), n_, f_.k, starts, groups_, right_.data()});
    for (int64_t g = 0; g < groups_; ++g) {
      const auto& group = f_.groups[static_cast<size_t>(g)];
      const int64_t begin = group.begin;
      const int64_t rest = f_.k - begin, width = group.end - begin;
      algebra_.gemm(1, f_.damped_gram.ref().block(begin, begin, rest, width),
                    levels_.row_block(begin, width), 0, product_.row_block(0, rest));
      device_.run(&Ops::column_sums,
                  {product_.data(), levels_.row_block(begin, rest).data, n_, rest, starts + g,
                   groups_ - g, normal_.data() + (g * groups_ + g) * n_});
    }
    device_.run(&Ops::refit,
                {r_, groups_, normal_.data(), right_.data(), next_.data(), diagonal_.data()});
    device_.run(&Ops::from_codes, {r_, nullptr});
  }

  void descend() {
    for (const auto& b : f_.blocks) {
      algebra_.gemm(-1, f_.damped_gram.row_block(b.begin, b.width()), error_, 0,
                    product_.row_block(0, b.width()));
      device_.run(&Ops::descend, {r_, b.begin, b.end, product_.data(), f_.damped_gram.data()});
    }
  }

  void read_exponents() {
    exponents_.resize(static_cast<size_t>(n_));
    device_.download(exponents_.data(), exponent_.data(), exponent_.bytes());
  }

  double loss_of(const Matrix<float>& gram_x, const Matrix<float>& x) {
    Matrix<double> sums(algebra_, 1, n_);
    device_.run(&Ops::column_sums, {gram_x.data(), x.data(), n_, f_.k, nullptr, 1, sums.data()});
    std::vector<double> rows(static_cast<size_t>(n_));
    device_.download(rows.data(), sums.data(), sums.bytes());
    double all = 0;
    for (size_t r = 0; r < rows.size(); ++r) all += std::ldexp(rows[r], 2 * exponents_[r]);
    return all;
  }

  void store() {
    Buffer<float> codes(f_.k * n_), scale(groups_ * n_), zero(groups_ * n_);
    device_.download(codes.data(), codes_.data(), codes_.bytes());
    device_.download(scale.data(), scale_.data(), scale_.bytes());
    device_.download(zero.data(), zero_.data(), zero_.bytes());
    parallel_ranges(n_, kHostRows, [&](int64_t begin, int64_t end) {
      GptqRows rows(f_, job_, begin, end - begin);
      for (int64_t r = 0; r < end - begin; ++r) {
        rows.exponent_[static_cast<size_t>(r)] = exponents_[static_cast<size_t>(begin + r)];
        for (size_t g = 0; g < f_.groups.size(); ++g) {
          const int64_t at = static_cast<int64_t>(g) * n_ + begin + r;
          rows.scale_[rows.scale_index(g, r)] = scale[at];
          rows.zero_[rows.scale_index(g, r)] = zero[at];
        }
      }
      for (int64_t p = 0; p < f_.k; ++p) {
        for (int64_t r = 0; r < end - begin; ++r)
          rows.codes_[r * f_.k + p] = codes[p * n_ + begin + r];
      }
      rows.store();
    });
  }

 private:
  const GpuGptq& f_;
  GpuAlgebra& algebra_;
  GpuDevice& device_;
  const GptqOptions& options_;
  const RowJob& job_;
  const int64_t groups_, n_;
  cuda::RoundedRows r_{};
  Matrix<float> original_, error_, codes_, product_, scale_, zero_;
  GpuBuffer exponent_;
  Matrix<float> target_, gram_original_, levels_;
  Matrix<double> normal_, right_, next_, diagonal_;
  std::vector<int32_t> exponents_;
};

GptqLoss GpuGptq::encode(const GptqOptions& options, const RowJob& job) const {
  if (is_fp8(job.encoding)) encode_minmax(job);  // which sets the scales
  return Rows(*this, options, job).run();
}

}  // namespace

std::unique_ptr<GptqFactor> gptq_on_gpu(GpuAlgebra& algebra) {
  return std::make_unique<GpuGptq>(algebra);
}

std::unique_ptr<GptqFactor> gptq_backend(Algebra& algebra) {
  if (auto* const gpu = dynamic_cast<GpuAlgebra*>(&algebra)) return gptq_on_gpu(*gpu);
  return gptq_on_host();
}

// A correction keeps 12 k^2 + 8 n k bytes, and takes 16 k^2 + 8 n k more while it is made, or the
// factor as many and then the rows.
uint64_t gptq_gpu_bytes(int64_t n, int64_t k, int64_t group) {
  const uint64_t of_row = GptqFactor::row_bytes(k, group);
  const int64_t rows = std::min(n, GpuAlgebra::panel_rows(of_row));
  return static_cast<uint64_t>(28 * k * k + 16 * n * k) + static_cast<uint64_t>(rows) * of_row;
}

}  // namespace pith
