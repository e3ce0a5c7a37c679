// Perplexity, and divergence between two models, over the windows of a protocol.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/progress.h"
#include "runtime/eval/logits_file.h"
#include "runtime/eval/protocol.h"
#include "runtime/eval/resume_file.h"
#include "runtime/forward/executor.h"

namespace pith {

struct PerplexityResult {
  int64_t tokens = 0;  // scored
  double nll = 0;      // mean, nats
  double perplexity = 0;
  double standard_error = 0;  // of the perplexity
};

// Files that an evaluation reads and writes beside its models; each may be null.
struct EvaluationFiles {
  Measurements* measured = nullptr;  // kPerplexityColumns or kl_columns() wide
  LogitsWriter* logits = nullptr;    // receives the logits of the model, or of the base
};

// Columns of `measured`: numbers for each scored token.
inline constexpr size_t kPerplexityColumns = 1;
inline size_t kl_columns(size_t candidates) { return 1 + 3 * candidates; }

// One model and all candidates see the same tokens; f32 log-softmax, sums in f64 in order of the
// text.
PerplexityResult evaluate_perplexity(Executor& executor, const Model& model,
                                     const std::vector<Window>& windows,
                                     Progress& progress = no_progress(),
                                     KvTypes cache = NumberFormat::kF32,
                                     const EvaluationFiles& files = {});

// The sum of the negative log probabilities of each window's scored tokens.
std::vector<double> window_nll(Executor& executor, const Model& model,
                               const std::vector<Window>& windows,
                               Progress& progress = no_progress(),
                               const EvaluationFiles& files = {});

struct KlResult {
  int64_t tokens = 0;
  // KL(base || candidate), nats, with the standard errors of the mean and of two quantiles
  double kl_mean = 0, kl_standard_error = 0, kl_median = 0, kl_p99 = 0, kl_p99_error = 0,
         kl_p999 = 0, kl_p999_error = 0, kl_max = 0;
  double same_top = 0;                // share of tokens whose likeliest successor is the same
  double rms_probability_change = 0;  // of the true next token
  PerplexityResult base, candidate;
  double ppl_ratio = 0;        // candidate / base
  double ppl_ratio_error = 0;  // standard error, from the paired differences
};

struct KlCandidate {
  const Model& model;
  Executor* executor = nullptr;  // null: the base's
  KvTypes cache = NumberFormat::kF32;
};

// Every candidate against the base, which runs once, with a cache in f32. One window's hidden
// states of each are in memory at a time.
std::vector<KlResult> evaluate_kl(Executor& executor, const Model& base,
                                  std::span<const KlCandidate> candidates,
                                  const std::vector<Window>& windows,
                                  Progress& progress = no_progress(),
                                  const EvaluationFiles& files = {});
// Against the stored distributions of a base. Error(kUsage) where the windows are not those that
// the base ran.
std::vector<KlResult> evaluate_kl(Executor& executor, const LogitsReader& base,
                                  std::span<const KlCandidate> candidates,
                                  const std::vector<Window>& windows,
                                  Progress& progress = no_progress(),
                                  const EvaluationFiles& files = {});
// One candidate.
KlResult evaluate_kl(Executor& executor, const Model& base, const Model& candidate,
                     const std::vector<Window>& windows, Progress& progress = no_progress());

// Error(kUsage) where there is nothing to score, or where a token is not below `vocab`.
int64_t check_windows(const std::vector<Window>& windows, uint64_t vocab);

// Logits [scored, vocab] of one window, for tests and for other measures.
std::vector<float> window_logits(Executor& executor, const Model& model, const Window& window);

}  // namespace pith
