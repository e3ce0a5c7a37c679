// Choosing the next token. The chain is that of llama.cpp and transformers: repetition penalty,
// temperature, top-k, top-p, min-p, then a draw from what remains. The same logits, history,
// options and seed give the same token on every backend.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "core/function_ref.h"
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

// A token that may be the next.
struct Candidate {
  float logit;
  int32_t id;
};
// The to.size() likeliest of logits [vocab], likeliest first, of equal ones that with the lower id;
// what is not a number comes before all.
void likeliest(std::span<const float> logits, std::span<Candidate> to);
// The same of each row of logits [rows, vocab], to [rows, k].
void likeliest_of_rows(std::span<const float> logits, int64_t rows, std::span<Candidate> to);
// What all that are less likely than `last` weigh together at a temperature, `top` weighing 1.
double mass_behind(std::span<const float> logits, const Candidate& top, const Candidate& last,
                   double temperature);

class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options);
  // How many of the likeliest of `vocab` tokens the next is chosen from.
  size_t candidates(std::span<const int32_t> history, size_t vocab) const;
  // From at least so many, as likeliest() has them, which are changed. `history`: prompt and output
  // so far. -inf excludes a token; Error(kNumeric) for NaN, +inf, and where all are excluded.
  int32_t choose(std::span<Candidate> from, std::span<const int32_t> history);
  // Whether the next can be chosen from some of the likeliest and the mass of all others.
  bool takes_mass() const {
    return !greedy() && options_.top_k == 0 && options_.repetition_penalty == 1;
  }
  // That choice; none where it may fall on one of the others, for sample() to make. `from` as
  // choose() has it, `mass_behind`(the first, the last) gives that of the others.
  std::optional<int32_t> choose_open(
      std::span<const Candidate> from,
      FunctionRef<double(const Candidate&, const Candidate&, double)> mass_behind);
  // The same of logits [vocab].
  int32_t sample(std::span<const float> logits, std::span<const int32_t> history);

 private:
  std::set<int32_t> penalized(std::span<const int32_t> history) const;
  // Changes the logits of seen tokens, which `find` finds, or null.
  void penalize(std::span<const int32_t> history, FunctionRef<float*(int32_t)> find) const;
  double uniform() { return uniform_ ? *uniform_ : *(uniform_ = rng_.uniform()); }
  static void check(std::span<const Candidate> from);
  // By `uniform` in [0, 1) from tokens in order, behind which others have this mass together; none
  // where it falls on those.
  std::optional<int32_t> draw(std::span<const Candidate> from, double others, double uniform) const;
  bool greedy() const { return options_.temperature == 0 || options_.top_k == 1; }

  SamplingOptions options_;
  Rng rng_;
  std::optional<double> uniform_;  // drawn for a choice that has not been made yet
  std::vector<Candidate> found_;
};

}  // namespace pith
