#include "prune/matrix.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/bytes.h"
#include "core/linalg.h"
#include "core/parallel.h"
#include "runtime/cpu/cpu_algebra.h"

namespace pith {
namespace {

constexpr int64_t kBlock = 128;  // columns whose misses go to later ones together, at most
constexpr int64_t kChoice = 32;  // columns whose mask is chosen together
constexpr int64_t kRows = 48;    // of a panel on the host, as of CpuAlgebra

// Drops the `count` least of saliency [count of columns] in columns [first, first + size) of a row;
// of equal ones the right.
void drop_least(int64_t first, std::span<const double> saliency, int64_t count, int64_t row,
                Mask* mask) {
  thread_local std::vector<int64_t> order;
  order.resize(saliency.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  const auto at = [&](int64_t i) { return saliency[static_cast<size_t>(i)]; };
  std::nth_element(order.begin(), order.begin() + count, order.end(), [&](int64_t a, int64_t b) {
    return at(a) < at(b) || (at(a) == at(b) && a > b);
  });
  for (int64_t i = 0; i < count; ++i) mask->drop(row, first + order[static_cast<size_t>(i)]);
}

class MatrixPruner {
 public:
  MatrixPruner(const MatrixPruning& how, const PruneInputs& inputs, int64_t n, ReadRows read,
               WriteRows write, Mask* mask)
      : how_(how),
        in_(inputs),
        n_(n),
        k_(inputs.k),
        read_(read),
        write_(write),
        mask_(*mask),
        costs_(how.method.costs(inputs)),
        group_(how.sparsity.kind == SparsityKind::kNM ? how.sparsity.of : 0),
        block_(group_ > kBlock ? group_
               : group_ > 0    ? kBlock / group_ * group_
                               : kBlock) {
    for (const float d : in_.diagonal) inverse_.push_back(1 / static_cast<double>(d));
  }

  PruneLoss run() {
    if (how_.whole_matrix) drop_least_of_matrix();
    std::vector<PruneLoss> losses(static_cast<size_t>(ceil_div(n_, kRows)));
    Algebra& algebra = in_.gram.empty() ? cpu_algebra() : *in_.algebra;
    algebra.for_row_panels(n_, kRows, row_bytes(k_), [&](int64_t begin, int64_t end) {
      losses[static_cast<size_t>(begin / kRows)] = panel(begin, end - begin);
    });
    PruneLoss all;
    for (const auto& l : losses) {
      all.error += l.error;
      all.norm += l.norm;
    }
    return all;
  }

  // Workspace of a row: eight numbers of 8 bytes a column on the host. A GPU takes panels of fewer
  // rows than it could, for this is memory of the host there.
  static uint64_t row_bytes(int64_t k) { return static_cast<uint64_t>(k) * 512; }

 private:
  // Some rows in the making: [rows, k].
  struct Panel {
    Panel(int64_t begin_row, int64_t row_count, int64_t k)
        : begin(begin_row), rows(row_count), original(rows * k), value(rows * k) {}
    int64_t begin, rows;
    Buffer<float> original;
    Buffer<double> value;
  };

  double saliency(double w, int64_t column) const {
    return w * w * costs_[static_cast<size_t>(column)];
  }

  PruneLoss panel(int64_t begin, int64_t rows) {
    Panel p(begin, rows, k_);
    parallel_ranges(rows, kRows, [&](int64_t first, int64_t last) {
      read_(begin + first, last - first, p.original.data() + first * k_);
      for (int64_t r = first; r < last; ++r) {
        if (!how_.whole_matrix) choose_row(begin + r, p.original.data() + r * k_);
      }
      if (how_.method.makes_up) {
        make_up(p, first, last - first);
      } else {
        for (int64_t r = first; r < last; ++r) {
          for (int64_t c = 0; c < k_; ++c) {
            const int64_t at = r * k_ + c;
            p.value[at] = mask_.keeps(begin + r, c) ? static_cast<double>(p.original[at]) : 0;
          }
        }
      }
    });
    const PruneLoss loss = in_.gram.empty() ? PruneLoss{} : refine(p);
    Buffer<float> out(rows * k_);
    for (int64_t i = 0; i < rows * k_; ++i) out[i] = static_cast<float>(p.value[i]);
    write_(begin, rows, out.data());
    return loss;
  }

  // ---- Step 1

  void choose_row(int64_t row, const float* w) {
    thread_local std::vector<double> values;
    values.resize(static_cast<size_t>(k_));
    for (int64_t c = 0; c < k_; ++c)
      values[static_cast<size_t>(c)] = saliency(static_cast<double>(w[c]), c);
    const std::span<const double> all = values;
    if (group_ == 0) return drop_least(0, all, k_ - how_.sparsity.kept, row, &mask_);
    // Where later columns make up for it, groups are chosen when their turn comes.
    if (how_.method.makes_up) return;
    for (int64_t c = 0; c < k_; c += group_)
      choose_group(row, c, all.subspan(static_cast<size_t>(c)));
  }
  // values: from column c on
  void choose_group(int64_t row, int64_t c, std::span<const double> values) {
    const int64_t width = std::min(group_, k_ - c);
    drop_least(c, values.first(static_cast<size_t>(width)),
               width - std::min(how_.sparsity.kept, width), row, &mask_);
  }

  // As many of columns [c, c + values.size()) as are dropped now.
  void choose_again(int64_t row, int64_t c, std::span<const double> values) {
    int64_t dropped = 0;
    for (int64_t i = c; i < c + std::ssize(values); ++i) {
      dropped += !mask_.keeps(row, i);
      mask_.keep(row, i);
    }
    drop_least(c, values, dropped, row, &mask_);
  }

  void drop_least_of_matrix() {
    Buffer<float> values(n_ * k_);
    parallel_ranges(n_, kRows, [&](int64_t begin, int64_t end) {
      float* const w = values.data() + begin * k_;
      read_(begin, end - begin, w);
      for (int64_t i = 0; i < (end - begin) * k_; ++i)
        w[i] = static_cast<float>(saliency(static_cast<double>(w[i]), i % k_));
    });
    // The first that is kept, in order of saliency; of those equal to it the left and upper are.
    const int64_t dropped = n_ * (k_ - how_.sparsity.kept);
    Buffer<float> sorted(n_ * k_);
    std::copy(values.begin(), values.end(), sorted.begin());
    std::nth_element(sorted.begin(), sorted.begin() + dropped, sorted.end());
    const float limit = sorted[dropped];
    int64_t equal =
        dropped - std::count_if(values.begin(), values.end(), [&](float v) { return v < limit; });
    for (int64_t i = n_ * k_; i-- > 0;) {
      if (values[i] < limit || (values[i] == limit && equal-- > 0)) mask_.drop(i / k_, i % k_);
    }
  }

  // ---- Step 2

  void make_up(Panel& p, int64_t first, int64_t rows) {
    thread_local Buffer<double> error, missed, values;
    error.require(rows * k_);
    missed.require(rows * block_);
    values.require(block_);
    const double* const factor = in_.factor.data();
    for (int64_t begin = 0; begin < k_; begin += block_) {
      const int64_t width = std::min(block_, k_ - begin);
      // The errors of the blocks before it, times the column of U and sqrt(D).
      multiply(1, {error.data(), rows, begin, k_}, {factor + begin, begin, width, k_}, 0,
               {missed.data(), rows, width});
      for (int64_t r = 0; r < rows; ++r) {
        make_up_row({p.begin + first + r, begin, width}, p.original.data() + (first + r) * k_,
                    missed.data() + r * width, values.data(), error.data() + r * k_,
                    p.value.data() + (first + r) * k_);
      }
    }
  }

  struct Piece {
    int64_t row, begin, width;  // columns
  };
  void make_up_row(const Piece& at, const float* original, double* missed, double* saliencies,
                   double* error, double* value) {
    const double* const factor = in_.factor.data();
    const auto target = [&](int64_t i) {
      const int64_t c = at.begin + i;
      return static_cast<double>(original[c]) + missed[i] / factor[c * k_ + c];
    };
    // Columns [from, to) as they would be if all from there on were free: each then misses what
    // it moves by.
    const auto set_saliencies = [&](int64_t from, int64_t to) {
      thread_local std::vector<double> free;
      free.assign(missed + from, missed + to);
      for (int64_t i = from; i < to; ++i) {
        const int64_t c = at.begin + i;
        const double* const row = factor + c * k_ + at.begin;
        const double moved = free[static_cast<size_t>(i - from)] / row[i];
        saliencies[i] = saliency(static_cast<double>(original[c]) + moved, c);
        for (int64_t j = i + 1; j < to; ++j) free[static_cast<size_t>(j - from)] -= moved * row[j];
      }
    };
    const int64_t choice = group_ > 0 ? group_ : kChoice;
    for (int64_t i = 0; i < at.width; ++i) {
      const int64_t c = at.begin + i;
      if (i % choice == 0) {
        const int64_t width = std::min(choice, at.width - i);
        set_saliencies(i, i + width);
        const std::span<const double> some(saliencies + i, static_cast<size_t>(width));
        if (group_ > 0) {
          choose_group(at.row, c, some);
        } else {
          choose_again(at.row, c, some);
        }
      }
      value[c] = mask_.keeps(at.row, c) ? target(i) : 0;
      error[c] = static_cast<double>(original[c]) - value[c];
      const double* const from = factor + c * k_ + at.begin;
      for (int64_t j = i + 1; j < at.width; ++j) missed[j] += error[c] * from[j];
    }
  }

  // ---- Step 3

  // to = from H, both [rows, k] on the host
  void times_gram(int64_t rows, float* from, float* to) const {
    Algebra& algebra = *in_.algebra;
    const Matrix<float> a = algebra.borrow(from, rows, k_);
    Matrix<float> b = algebra.borrow(to, rows, k_);
    algebra.gemm(1, a, in_.gram, 0, b);
    algebra.give_back(b, to);
  }

  // A row of a by the same of b, in f64.
  double dot(int64_t row, const Buffer<float>& a, const Buffer<float>& b) const {
    constexpr int kSums = 8;  // as the adder takes them
    const float *x = a.data() + row * k_, *y = b.data() + row * k_;
    double sums[kSums] = {};
    int64_t i = 0;
    for (; i + kSums <= k_; i += kSums) {
      for (int s = 0; s < kSums; ++s)
        sums[s] += static_cast<double>(x[i + s]) * static_cast<double>(y[i + s]);
    }
    for (; i < k_; ++i) sums[0] += static_cast<double>(x[i]) * static_cast<double>(y[i]);
    return std::accumulate(sums, sums + kSums, 0.0);
  }

  // The rows' loss, after the rounds of refinement.
  PruneLoss refine(Panel& p) const {
    const int64_t size = p.rows * k_;
    Buffer<float> direction(size), product(size);
    const auto set_error = [&](const Buffer<double>& value) {
      for (int64_t i = 0; i < size; ++i)
        direction[i] = static_cast<float>(static_cast<double>(p.original[i]) - value[i]);
    };
    std::vector<double> loss(static_cast<size_t>(p.rows));
    PruneLoss all;
    times_gram(p.rows, p.original.data(), product.data());
    for (int64_t r = 0; r < p.rows; ++r) all.norm += dot(r, p.original, product);
    set_error(p.value);
    times_gram(p.rows, direction.data(), product.data());
    for (int64_t r = 0; r < p.rows; ++r) loss[static_cast<size_t>(r)] = dot(r, direction, product);
    if (how_.refine > 0) {
      Buffer<double> refined(size);
      std::copy(p.value.begin(), p.value.end(), refined.begin());
      descend(p, direction, product, &refined);
      set_error(refined);
      times_gram(p.rows, direction.data(), product.data());
      for (int64_t r = 0; r < p.rows; ++r) {
        const double now = dot(r, direction, product);
        double& before = loss[static_cast<size_t>(r)];
        if (!(now < before)) continue;
        before = now;
        std::copy_n(refined.data() + r * k_, k_, p.value.data() + r * k_);
      }
    }
    all.error = std::accumulate(loss.begin(), loss.end(), 0.0);
    return all;
  }

  // Conjugate gradients from `x` on. `product`: (w - x) H, lost, as `direction` is.
  void descend(const Panel& panel, Buffer<float>& direction, Buffer<float>& product,
               Buffer<double>* x) const {
    const int64_t rows = panel.rows;
    const double* const inverse = inverse_.data();
    // Zero where nothing is kept, as directions then are: kept is 1 or 0.
    Buffer<double> residual(rows * k_), kept(rows * k_);
    std::vector<double> norm(static_cast<size_t>(rows));  // r M^-1 r^T
    const auto set_direction = [&](int64_t row) {
      const double* const r = residual.data() + row * k_;
      float* const p = direction.data() + row * k_;
      double now = 0;
      for (int64_t c = 0; c < k_; ++c) now += r[c] * r[c] * inverse[c];
      double& before = norm[static_cast<size_t>(row)];
      const double beta = before > 0 ? now / before : 0;
      for (int64_t c = 0; c < k_; ++c)
        p[c] = static_cast<float>(r[c] * inverse[c] + beta * static_cast<double>(p[c]));
      before = now;
    };
    const auto each_row = [&](FunctionRef<void(int64_t)> f) {
      parallel_ranges(rows, kRows, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) f(row);
      });
    };
    each_row([&](int64_t row) {
      for (int64_t c = 0; c < k_; ++c) {
        const int64_t i = row * k_ + c;
        kept[i] = mask_.keeps(panel.begin + row, c) ? 1 : 0;
        residual[i] = kept[i] * static_cast<double>(product[i]);
      }
      set_direction(row);
    });
    for (int round = 0; round < how_.refine; ++round) {
      times_gram(rows, direction.data(), product.data());
      each_row([&](int64_t row) {
        const double curvature = dot(row, direction, product);
        if (!(curvature > 0)) return;  // it is there already
        const double step = norm[static_cast<size_t>(row)] / curvature;
        for (int64_t i = row * k_; i < (row + 1) * k_; ++i) {
          (*x)[i] += step * static_cast<double>(direction[i]);
          residual[i] -= step * kept[i] * static_cast<double>(product[i]);
        }
        set_direction(row);
      });
    }
  }

  const MatrixPruning& how_;
  const PruneInputs& in_;
  const int64_t n_, k_;
  ReadRows read_;
  WriteRows write_;
  Mask& mask_;
  const std::vector<double> costs_;
  std::vector<double> inverse_;  // of the diagonal of H: the preconditioner
  const int64_t group_, block_;  // columns; group 0: anywhere
};

}  // namespace

PruneLoss prune_matrix(const MatrixPruning& how, const PruneInputs& inputs, int64_t n,
                       ReadRows read, WriteRows write, Mask* mask) {
  return MatrixPruner(how, inputs, n, read, write, mask).run();
}

uint64_t prune_matrix_bytes(int64_t n, int64_t k, bool whole_matrix) {
  // Weights, values, errors, residuals and directions of a panel of each thread.
  const auto panels = static_cast<uint64_t>(thread_count() * kRows * k) * 64;
  return panels + (whole_matrix ? static_cast<uint64_t>(n * k) * 8 : 0);
}

}  // namespace pith
