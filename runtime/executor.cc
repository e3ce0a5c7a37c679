#include "runtime/executor.h"

#include "core/error.h"
#include "runtime/split_executor.h"

namespace pith {

void check_fits(const Batch& batch, const KvCache& cache) {
  for (const Segment& s : batch.segments) {
    if (s.slot < 0 || s.slot >= cache.slots() || s.begin < 0 ||
        s.begin + s.count > cache.length()) {
      fail(ErrorKind::kUsage, "tokens {} to {} of sequence {} do not fit a cache of {} x {}",
           s.begin, s.begin + s.count, s.slot, cache.slots(), cache.length());
    }
  }
}

void Executor::attention_linear(const proto::Attention& spec, const AttentionWeights& weights,
                                int index, const Batch& batch, KvCache& cache, Activation q,
                                Activation k, Activation v, Activation attended, Activation y) {
  const auto d = static_cast<int64_t>(spec.head_dim());
  const auto prepare = [&](const NormWeights& w, const proto::Norm& norm, Activation x) {
    const Activation by_head = x.reshaped(x.m * x.n / d, d);
    if (norm.kind() != proto::NORM_NONE) this->norm(w, by_head, by_head);
    if (spec.rope().dims() > 0) rope(spec.rope(), d, batch, x);
  };
  prepare(weights.query_norm, spec.query_norm(), q);
  prepare(weights.key_norm, spec.key_norm(), k);
  attention(spec, index, batch, cache, q, k, v, attended);
  linear(weights.o, attended, y, true);
}

void Executor::top(Activation logits, std::span<Candidate> to) {
  std::vector<float> all(static_cast<size_t>(logits.n));
  read(logits, all);
  likeliest(all, to);
}

double Executor::mass_behind(Activation logits, const Candidate& top, const Candidate& last,
                             double temperature) {
  std::vector<float> all(static_cast<size_t>(logits.n));
  read(logits, all);
  return pith::mass_behind(all, top, last, temperature);
}

std::unique_ptr<Executor> make_executor(const ExecutorChoice& choice) {
  if (!choice.cuda) return make_cpu_executor(choice.inputs);
  if (choice.gpu_layers < 0) return make_cuda_executor();
  return make_split_executor(make_cpu_executor(choice.inputs), make_cuda_executor(),
                             choice.gpu_layers);
}

}  // namespace pith
