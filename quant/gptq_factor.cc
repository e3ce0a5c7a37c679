#include "quant/gptq.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/bytes.h"
#include "core/error.h"
#include "core/linalg.h"
#include "core/parallel.h"
#include "quant/gptq_gpu.h"

namespace pith {
namespace {

std::vector<GptqFactor::Group> ordered_groups(const float* diagonal, int64_t k, int64_t group,
                                              bool sort, std::vector<int64_t>* order) {
  struct Piece {
    int64_t index, begin, end;
    double importance;
  };
  std::vector<Piece> pieces;
  for (int64_t begin = 0; begin < k; begin += group) {
    const int64_t end = std::min(k, begin + group);
    const double sum = std::accumulate(diagonal + begin, diagonal + end, 0.0);
    pieces.push_back({begin / group, begin, end, sum / static_cast<double>(end - begin)});
  }
  order->resize(static_cast<size_t>(k));
  std::iota(order->begin(), order->end(), 0);
  if (sort) {
    std::ranges::stable_sort(pieces, std::greater{}, &Piece::importance);
    for (const auto& p : pieces) {
      std::stable_sort(order->begin() + p.begin, order->begin() + p.end,
                       [&](int64_t a, int64_t b) { return diagonal[a] > diagonal[b]; });
    }
  }
  std::vector<int64_t> columns;
  std::vector<GptqFactor::Group> groups;
  for (const auto& p : pieces) {
    const auto place = static_cast<int64_t>(columns.size());
    groups.push_back({p.index, place, place + p.end - p.begin});
    columns.insert(columns.end(), order->begin() + p.begin, order->begin() + p.end);
  }
  *order = std::move(columns);
  return groups;
}

std::vector<GptqFactor::Block> blocks_of(const std::vector<GptqFactor::Group>& groups) {
  std::vector<GptqFactor::Block> blocks;
  const auto add = [&](int64_t begin, int64_t end) {
    auto& b = blocks.emplace_back();
    b.begin = begin;
    b.end = end;
  };
  for (const auto& g : groups) {
    if (g.end - g.begin > GptqFactor::kBlock) {
      for (int64_t p = g.begin; p < g.end; p += GptqFactor::kBlock)
        add(p, std::min(g.end, p + GptqFactor::kBlock));
    } else if (!blocks.empty() && g.end - blocks.back().begin <= GptqFactor::kBlock) {
      blocks.back().end = g.end;
    } else {
      add(g.begin, g.end);
    }
  }
  return blocks;
}

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

}  // namespace

uint64_t GptqFactor::working_bytes(int64_t k) {
  const auto n = static_cast<uint64_t>(k);
  return n * n * (4 + 8 + 4 + 2);  // Gram matrix, factor in f64, by blocks: H and half of U
}

std::unique_ptr<GptqFactor> GptqFactor::make(const float* gram, int64_t k, int64_t group,
                                             const GptqOptions& options, GpuDevice* device) {
  auto f = std::make_unique<GptqFactor>();
  f->k = k;
  std::vector<float> diagonal(static_cast<size_t>(k));
  double mean = 0;
  int64_t active = 0;
  for (int64_t i = 0; i < k; ++i) {
    const float d = gram[i * k + i];
    if (!std::isfinite(d)) return nullptr;
    diagonal[static_cast<size_t>(i)] = d;
    mean += static_cast<double>(d);
    active += d > 0;
  }
  if (active == 0) return nullptr;
  mean /= static_cast<double>(active);
  // At a mean of 1, so that neither tiny nor huge inputs leave the range of f32.
  const double unit = 1 / mean;
  for (auto& d : diagonal) d = d > 0 ? static_cast<float>(static_cast<double>(d) * unit) : 1.0f;
  f->groups = ordered_groups(diagonal.data(), k, group, options.order, &f->order);
  f->blocks = blocks_of(f->groups);
  f->variance.resize(static_cast<size_t>(k));
  if (device != nullptr) {
    f->gpu = factor_on_gpu(*device, f.get(), gram, diagonal, unit, options.damping);
    return f->gpu ? std::move(f) : nullptr;
  }

  Buffer<double> u(k * k);
  parallel_for(k, [&](int64_t i) {
    const int64_t row = f->order[static_cast<size_t>(i)];
    for (int64_t j = 0; j < k; ++j) {
      const int64_t column = f->order[static_cast<size_t>(j)];
      u[i * k + j] = static_cast<double>(gram[row * k + column]) * unit;
    }
    u[i * k + i] = static_cast<double>(diagonal[static_cast<size_t>(row)]) + options.damping;
  });
  for (auto& b : f->blocks) {
    b.gram = Buffer<float>(k * b.width());
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = 0; j < b.width(); ++j)
        b.gram[i * b.width() + j] = static_cast<float>(u[i * k + b.begin + j]);
    }
  }
  if (!upper_cholesky(k, u.data())) return nullptr;
  for (int64_t i = 0; i < k; ++i)
    f->variance[static_cast<size_t>(i)] = static_cast<float>(u[i * k + i] * u[i * k + i]);
  for (auto& b : f->blocks) {
    b.feedback = Buffer<float>(b.end * b.width());
    for (int64_t i = 0; i < b.end; ++i) {
      for (int64_t j = 0; j < b.width(); ++j) {
        const int64_t column = b.begin + j;
        b.feedback[i * b.width() + j] =
            i > column ? 0.0f : static_cast<float>(u[i * k + column] / u[column * k + column]);
      }
    }
  }
  f->group_inverse.resize(f->groups.size());
  parallel_for(static_cast<int64_t>(f->groups.size()), [&](int64_t i) {
    const auto& g = f->groups[static_cast<size_t>(i)];
    const int64_t n = g.end - g.begin;
    if (n > GptqFactor::kBlock)
      return;  // wider than a block: its scale is that of the original weights
    const auto b = std::ranges::find_if(
        f->blocks, [&](const Block& x) { return x.begin <= g.begin && g.end <= x.end; });
    auto& to = f->group_inverse[static_cast<size_t>(i)];
    to = Buffer<float>(n * n);
    invert_unit_upper(n, b->feedback.data() + g.begin * b->width() + g.begin - b->begin, b->width(),
                      to.data());
  });
  return f;
}

}  // namespace pith
