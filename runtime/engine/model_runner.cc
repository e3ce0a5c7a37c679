#include "runtime/engine/model_runner.h"

#include <algorithm>

#include "core/bytes.h"
#include "core/error.h"
#include "runtime/cpu/kv_cache.h"
#include "runtime/forward/forward.h"

namespace pith {

namespace {

int64_t context_of(const ModelSource& source, const RunnerOptions& options) {
  if (options.context > 0) return options.context;
  return std::min<int64_t>(static_cast<int64_t>(source.spec().context()), 4096);
}

// Before any work; a GPU's memory is checked by its executor.
std::unique_ptr<Executor> checked_executor(const ModelSource& source,
                                           const RunnerOptions& options) {
  if (options.prefill_chunk < 0)
    fail(ErrorKind::kUsage, "prefill chunks of {} tokens", options.prefill_chunk);
  if (!options.executor.cuda) {
    const bool whole = options.cache_tokens == 0;
    require_cache_memory(
        source.spec(),
        {whole ? options.sequences : 1, whole ? context_of(source, options) : options.cache_tokens,
         options.cache},
        model_bytes(source));
  }
  return make_executor(options.executor);
}

}  // namespace

ModelRunner::ModelRunner(const ModelSource& source, const RunnerOptions& options)
    : ModelRunner(source, checked_executor(source, options), options) {}

ModelRunner::ModelRunner(const ModelSource& source, std::unique_ptr<Executor> executor,
                         const RunnerOptions& options)
    : model_(load_model(source)), executor_(std::move(executor)), cancel_(options.cancel) {
  const int64_t context = context_of(source, options);
  const KvPages one(1, context, 1);
  const int64_t pages = options.cache_tokens > 0 ? ceil_div(options.cache_tokens, one.page_tokens())
                                                 : options.sequences * one.pages_per_slot();
  const KvConfig cache{options.sequences, context, options.cache, pages};
  memory_ = executor_->prepare(model_, {.cache = cache, .tokens = options.prefill_chunk});
  cache_ = executor_->make_cache(model_.spec, cache);
}

Tensor ModelRunner::run(const Batch& batch, std::span<const int64_t> rows) {
  cancel_.check();
  if (!rows.empty()) return forward_logits(*executor_, model_, batch, *cache_, rows);
  forward_hidden(*executor_, model_, batch, *cache_);
  return {};
}

void ModelRunner::sample(Tensor logits, std::span<Sequence* const> sequences,
                         std::span<int32_t> next) {
  constexpr size_t kMax = Executor::kMaxCandidates;
  const auto vocab = static_cast<size_t>(logits.n);
  std::vector<size_t> wanted;  // candidates of a row; 0: all logits
  for (Sequence* const s : sequences) {
    const size_t enough = s->sampler().candidates(s->history(), vocab);
    wanted.push_back(enough <= kMax                              ? enough
                     : s->sampler().takes_mass() && vocab > kMax ? kMax
                                                                 : 0);
  }
  const size_t k = std::ranges::max(wanted);
  std::vector<Candidate> candidates(sequences.size() * k);
  if (k > 0) executor_->top(logits, candidates);
  std::vector<float> all;
  for (size_t i = 0; i < sequences.size(); ++i) {
    Sampler& sampler = sequences[i]->sampler();
    const auto history = sequences[i]->history();
    const auto top = std::span(candidates).subspan(i * k, wanted[i]);
    if (wanted[i] > 0 && sampler.candidates(history, vocab) <= kMax) {
      next[i] = sampler.choose(top, history);
      continue;
    }
    if (wanted[i] > 0) {
      const auto mass = [&](const Candidate& first, const Candidate& last, double temperature) {
        return executor_->mass_behind(logits, static_cast<int64_t>(i), first, last, temperature);
      };
      if (const auto id = sampler.choose_open(top, mass)) {
        next[i] = *id;
        continue;
      }
    }
    if (all.empty()) {
      all.resize(sequences.size() * vocab);
      executor_->read(logits, all);
    }
    next[i] = sampler.sample(std::span(all).subspan(i * vocab, vocab), history);
  }
}

}  // namespace pith
