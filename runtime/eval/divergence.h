// Mean Kullback-Leibler divergence between next-token distributions.
#pragma once

#include <cstdint>
#include <span>

namespace pith {

// Mean over rows of logits [rows, vocab].
double mean_kl(std::span<const float> p, std::span<const float> q, int64_t vocab);

}  // namespace pith
