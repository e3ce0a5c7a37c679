// Choosing the next token. The chain is that of llama.cpp and transformers: repetition penalty,
// temperature, top-k, top-p, min-p, then a draw from what remains. The same logits, history,
// options and seed give the same token on every backend.
#pragma once

#include <cstdint>
#include <span>

#include "core/rng.h"

namespace pith {

struct SamplingOptions {
  double temperature = 0;  // 0: greedy
  int64_t top_k = 0;       // keep the k likeliest; 0: all
  double top_p = 1;  // keep the likeliest that reach this mass together (Holtzman et al. 2020)
  double min_p = 0;  // keep those at least this share of the likeliest
  double repetition_penalty = 1;  // logits of seen tokens: divided where positive, multiplied where
                                  // negative (Keskar et al. 2019)
  int64_t repetition_window = 256;
  uint64_t seed = 0;
};

void check_sampling(const SamplingOptions& options);  // Error(kUsage)

class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options);
  // logits [vocab] are changed. `history`: prompt and output so far. -inf excludes a token;
  // Error(kNumeric) for NaN, +inf, and where all are excluded.
  int32_t sample(std::span<float> logits, std::span<const int32_t> history);

 private:
  SamplingOptions options_;
  Rng rng_;
};

}  // namespace pith
