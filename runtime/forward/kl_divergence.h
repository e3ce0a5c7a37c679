// Kullback-Leibler divergence between next-token distributions.
#pragma once

#include <cstdint>

namespace pith {

// KL(softmax(p) || softmax(q)) in nats for logits [vocab] and the logarithms of their sums of
// exponentials. Sums in f64; not below 0; NaN where a logit is.
double kl_divergence(const float* p, double log_sum_p, const float* q, double log_sum_q,
                     int64_t vocab);

}  // namespace pith
