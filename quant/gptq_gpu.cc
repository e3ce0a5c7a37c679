#include "quant/gptq_gpu.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/parallel.h"
#include "quant/gptq_rows.h"

namespace pith {
namespace {

using cuda::Ops;

cuda::Levels device_levels(Levels levels) {
  switch (levels) {
    case Levels::kE4M3:
      return cuda::Levels::kE4M3;
    case Levels::kE5M2:
      return cuda::Levels::kE5M2;
    case Levels::kNf4:
      return cuda::Levels::kNf4;
    default:
      return cuda::Levels::kIntegers;
  }
}

template <class T>
GpuBuffer table(GpuDevice& device, const std::vector<T>& from) {
  return {device, from.data(), from.size() * sizeof(T)};
}

constexpr int64_t kHostRows = 48;  // that a thread stores as one piece

// Some rows in the making, [places, rows].
class Rows {
 public:
  Rows(const GptqFactor& f, const GptqOptions& options, const RowJob& job, const float* w)
      : f_(f),
        gpu_(*f.gpu),
        device_(gpu_.device),
        options_(options),
        job_(job),
        groups_(static_cast<int64_t>(f.groups.size())),
        n_(job.rows),
        original_(device_, f.k, n_),
        error_(device_, f.k, n_),
        codes_(device_, f.k, n_),
        product_(device_, f.k, n_),
        scale_(device_, groups_, n_),
        zero_(device_, groups_, n_),
        exponent_(device_, static_cast<uint64_t>(n_) * sizeof(int32_t)) {
    r_ = {n_,
          f.k,
          device_levels(levels_of(job.encoding)),
          job.encoding.bits,
          job.encoding.symmetric,
          is_fp8(job.encoding)                 ? cuda::StoredAs::kF32
          : job.encoding.scale == DType::kBF16 ? cuda::StoredAs::kBF16
                                               : cuda::StoredAs::kF16,
          gpu_.group.data<int32_t>(),
          exponent_.data<int32_t>(),
          original_.data(),
          error_.data(),
          codes_.data(),
          scale_.data(),
          zero_.data()};
    device_.run(&Ops::load_rows, {w, n_, f.k, gpu_.order.data<int32_t>(), exponent_.data<int32_t>(),
                                  original_.data()});
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
    gram_original_ = GpuMatrix<float>(device_, f_.k, n_);
    times_gram(original_.data(), gram_original_.data());
    for (int i = 0; i < options_.refine; ++i) {
      if (own_scales) refit();
      descend();
    }
    if (options_.refine > 0 && own_scales) refit();
    read_exponents();
    GptqLoss loss;
    loss.norm = loss_of(gram_original_, original_);
    times_gram(error_.data(), product_.data());
    loss.error = loss_of(product_, error_);
    store();
    return loss;
  }

 private:
  // to = H from
  void times_gram(const float* from, float* to) {
    gpu_multiply(device_, f_.k, n_, f_.k, gpu_.gram.plain(), {from, n_, false}, to);
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
    device_.upload(scale_.data(), scale.data(), scale_.buffer.bytes());
    device_.upload(zero_.data(), zero.data(), zero_.buffer.bytes());
    device_.wait();
  }

  void sweep(cuda::ScaleFrom from) {
    target_ = GpuMatrix<float>(device_, GptqFactor::kBlock, n_);
    for (const auto& b : f_.blocks) {
      gpu_multiply(device_, b.width(), n_, b.begin, {gpu_.unit.data() + b.begin, f_.k, true},
                   error_.plain(), target_.data());
      device_.run(&Ops::sweep, {r_, b.begin, b.end, from, target_.data(), gpu_.unit.data(),
                                gpu_.variance.data<float>()});
    }
  }

  void refit() {
    if (levels_.empty()) {
      levels_ = GpuMatrix<float>(device_, f_.k, n_);
      normal_ = GpuMatrix<double>(device_, groups_ * groups_, n_);
      right_ = GpuMatrix<double>(device_, groups_, n_);
      next_ = GpuMatrix<double>(device_, groups_, n_);
      diagonal_ = GpuMatrix<double>(device_, groups_, n_);
    }
    device_.run(&Ops::from_codes, {r_, levels_.data()});
    const auto* const starts = gpu_.starts.data<int32_t>();
    device_.run(&Ops::column_sums,
                {gram_original_.data(), levels_.data(), n_, f_.k, starts, groups_, right_.data()});
    for (int64_t g = 0; g < groups_; ++g) {
      const auto& group = f_.groups[static_cast<size_t>(g)];
      const int64_t begin = group.begin;
      gpu_multiply(device_, f_.k - begin, n_, group.end - begin,
                   {gpu_.gram.data() + begin * f_.k + begin, f_.k, false}, levels_.from_row(begin),
                   product_.data());
      device_.run(&Ops::column_sums,
                  {product_.data(), levels_.from_row(begin).data, n_, f_.k - begin, starts + g,
                   groups_ - g, normal_.data() + (g * groups_ + g) * n_});
    }
    device_.run(&Ops::refit,
                {r_, groups_, normal_.data(), right_.data(), next_.data(), diagonal_.data()});
    device_.run(&Ops::from_codes, {r_, nullptr});
  }

  void descend() {
    for (const auto& b : f_.blocks) {
      gpu_multiply(device_, b.width(), n_, f_.k, gpu_.gram.from_row(b.begin), error_.plain(),
                   product_.data(), -1);
      device_.run(&Ops::descend, {r_, b.begin, b.end, product_.data(), gpu_.gram.data()});
    }
  }

  void read_exponents() {
    exponents_.resize(static_cast<size_t>(n_));
    device_.download(exponents_.data(), exponent_.data(), exponent_.bytes());
  }

  double loss_of(const GpuMatrix<float>& gram_x, const GpuMatrix<float>& x) {
    const GpuMatrix<double> sums(device_, 1, n_);
    device_.run(&Ops::column_sums, {gram_x.data(), x.data(), n_, f_.k, nullptr, 1, sums.data()});
    std::vector<double> rows(static_cast<size_t>(n_));
    device_.download(rows.data(), sums.data(), sums.buffer.bytes());
    double all = 0;
    for (size_t r = 0; r < rows.size(); ++r) all += std::ldexp(rows[r], 2 * exponents_[r]);
    return all;
  }

  void store() {
    Buffer<float> codes(f_.k * n_), scale(groups_ * n_), zero(groups_ * n_);
    device_.download(codes.data(), codes_.data(), codes_.buffer.bytes());
    device_.download(scale.data(), scale_.data(), scale_.buffer.bytes());
    device_.download(zero.data(), zero_.data(), zero_.buffer.bytes());
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

  const GptqFactor& f_;
  const GptqOnGpu& gpu_;
  GpuDevice& device_;
  const GptqOptions& options_;
  const RowJob& job_;
  const int64_t groups_, n_;
  cuda::RoundedRows r_{};
  GpuMatrix<float> original_, error_, codes_, product_, scale_, zero_;
  GpuBuffer exponent_;
  GpuMatrix<float> target_, gram_original_, levels_;
  GpuMatrix<double> normal_, right_, next_, diagonal_;
  std::vector<int32_t> exponents_;
};

}  // namespace

std::shared_ptr<GptqOnGpu> factor_on_gpu(GpuDevice& device, GptqFactor* f, const float* gram,
                                         const std::vector<float>& diagonal, double unit,
                                         double damping) {
  const int64_t k = f->k;
  std::vector<int32_t> order(f->order.begin(), f->order.end()), group, starts;
  for (const auto& g : f->groups) {
    group.insert(group.end(), static_cast<size_t>(g.end - g.begin),
                 static_cast<int32_t>(starts.size()));
    starts.push_back(static_cast<int32_t>(g.begin));
  }
  starts.push_back(static_cast<int32_t>(k));
  // The Gram matrix as it came lies where the unit factor will.
  auto to =
      std::make_shared<GptqOnGpu>(GptqOnGpu{device,
                                            {device, k, k},
                                            {device, k, k, gram},
                                            {device, static_cast<uint64_t>(k) * sizeof(float)},
                                            table(device, order),
                                            table(device, group),
                                            table(device, starts)});
  const GpuBuffer on_diagonal = table(device, diagonal);
  GpuMatrix<double> u(device, k, k);
  device.run(&Ops::reorder, {to->unit.data(), to->order.data<int32_t>(), on_diagonal.data<float>(),
                             k, unit, damping, u.data(), to->gram.data()});
  if (!gpu_upper_cholesky(device, u)) return nullptr;
  device.run(&Ops::unit_upper, {u.data(), k, to->unit.data(), to->variance.data<float>()});
  device.download(f->variance.data(), to->variance.data(), to->variance.bytes());
  return to;
}

GptqLoss encode_gptq_on_gpu(const GptqFactor& f, const GptqOptions& options, const RowJob& job,
                            const float* w) {
  if (is_fp8(job.encoding)) encode_minmax(job);  // which sets the scales
  return Rows(f, options, job, w).run();
}

namespace {

int64_t bytes_of_row(int64_t k, int64_t group) {
  const int64_t groups = (k + group - 1) / group;
  return 8 * k * 4 + groups * (groups + 4) * 8;
}

}  // namespace

int64_t gptq_gpu_rows(int64_t k, int64_t group) {
  constexpr int64_t kRoom = int64_t{2} << 30, kMost = 8192, kStep = 128;
  return std::clamp(kRoom / bytes_of_row(k, group) / kStep * kStep, kStep, kMost);
}

// A correction keeps 12 k^2 + 8 n k bytes, and takes 16 k^2 + 8 n k more while it is made, or the
// factor as many and then the rows.
uint64_t gptq_gpu_bytes(int64_t n, int64_t k, int64_t group) {
  const int64_t rows = std::min(n, gptq_gpu_rows(k, group));
  return static_cast<uint64_t>(28 * k * k + 16 * n * k + rows * bytes_of_row(k, group));
}

std::unique_ptr<GpuCorrection> GpuCorrection::make(GpuDevice& device, const InputStatistics& fitted,
                                                   const InputStatistics& held, int64_t k,
                                                   double damping) {
  const int64_t n = fitted.residual.size() / k;
  std::vector<float> diagonal(static_cast<size_t>(k));
  double mean = 0;
  for (int64_t i = 0; i < k; ++i) {
    diagonal[static_cast<size_t>(i)] = fitted.gram[i * k + i];
    mean += static_cast<double>(fitted.gram[i * k + i]) / static_cast<double>(k);
  }
  GpuMatrix<double> a(device, k, k), b(device, k + n, k);
  {
    const GpuMatrix<float> gram(device, k, k, fitted.gram.data()),
        cross(device, k, k, fitted.cross.data()), residual(device, n, k, fitted.residual.data());
    const GpuBuffer on_diagonal = table(device, diagonal);
    device.run(&Ops::reorder, {gram.data(), nullptr, on_diagonal.data<float>(), k, 1.0,
                               damping * mean, a.data(), nullptr});
    device.run(&Ops::f32_to_f64, {cross.data(), k * k, b.data()});
    device.run(&Ops::f32_to_f64, {residual.data(), n * k, b.data() + k * k});
    device.wait();
  }
  if (!gpu_solve_positive(device, a, b)) return nullptr;
  std::unique_ptr<GpuCorrection> to(new GpuCorrection(device));
  to->inputs_ = GpuMatrix<float>(device, k, k);
  to->outputs_ = GpuMatrix<float>(device, n, k);
  device.run(&Ops::f64_to_f32, {b.data(), k * k, to->inputs_.data()});
  device.run(&Ops::f64_to_f32, {b.data() + k * k, n * k, to->outputs_.data()});
  device.wait();
  to->held_change_ = GpuMatrix<float>(device, k, k, held.cross.data());
  to->held_gram_ = GpuMatrix<float>(device, k, k, held.gram.data());
  to->held_residual_ = GpuMatrix<float>(device, n, k, held.residual.data());
  device.wait();
  return to;
}

GpuMatrix<float> GpuCorrection::move(const float* w, int64_t first, int64_t rows) {
  const int64_t k = inputs_.columns;
  GpuMatrix<float> to(device_, rows, k);
  gpu_multiply(device_, rows, k, k, {w, k, false}, inputs_.plain(), to.data());
  if (!outputs_.empty())
    device_.run(&Ops::add_scaled, {outputs_.from_row(first).data, 1, rows * k, to.data()});
  return to;
}

void GpuCorrection::judge(const float* w, const GpuMatrix<float>& move, int64_t first, double* gain,
                          double* cost) {
  const int64_t rows = move.rows, k = move.columns;
  GpuMatrix<float> product(device_, rows, k);
  gpu_multiply(device_, rows, k, k, {w, k, false}, held_change_.plain(), product.data());
  if (!held_residual_.empty())
    device_.run(&Ops::add_scaled,
                {held_residual_.from_row(first).data, 1, rows * k, product.data()});
  *gain = gpu_dot(device_, rows, k, move.data(), product.data());
  gpu_multiply(device_, rows, k, k, move.plain(), held_gram_.plain(), product.data());
  *cost = gpu_dot(device_, rows, k, move.data(), product.data());
}

void GpuCorrection::apply(const GpuMatrix<float>& move, float share, float* w) {
  device_.run(&Ops::add_scaled, {move.data(), share, move.rows * move.columns, w});
}

}  // namespace pith
