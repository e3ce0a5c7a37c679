#include "quant/gptq.h"

#include <algorithm>
#include <numeric>

#include "core/bytes.h"
#include "core/error.h"
#include "core/parallel.h"
#include "quant/gptq_backends.h"
#include "runtime/compress/damped_gram.h"

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
  const auto add = [&](int64_t begin, int64_t end) { blocks.push_back({begin, end}); };
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

}  // namespace

uint64_t GptqFactor::working_bytes(int64_t k) {
  const auto n = static_cast<uint64_t>(k);
  return n * n * (4 + 8 + 4 + 2);  // Gram matrix, factor in f64, by blocks: H and half of U
}

uint64_t GptqFactor::row_bytes(int64_t k, int64_t group) {
  const int64_t groups = ceil_div(k, group);
  return static_cast<uint64_t>(8 * k * 4 + groups * (groups + 4) * 8);
}

std::unique_ptr<GptqFactor> GptqFactor::make(Algebra& algebra, const float* gram, int64_t k,
                                             int64_t group, const GptqOptions& options) {
  const GramDiagonal diagonal = gram_diagonal(gram, k);
  if (diagonal.values.empty()) return nullptr;
  auto f = gptq_backend(algebra);
  f->k = k;
  f->groups = ordered_groups(diagonal.values.data(), k, group, options.order, &f->order);
  f->blocks = blocks_of(f->groups);
  f->variance.resize(static_cast<size_t>(k));
  Matrix<double> h =
      damped_gram(algebra, gram, k, f->order, diagonal, {options.damping, options.shrink});
  f->set_gram(h);
  if (!algebra.cholesky(h)) return nullptr;
  f->set_factor(h);
  return f;
}

}  // namespace pith
