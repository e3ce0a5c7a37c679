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

void Executor::top(Activation logits, std::span<Candidate> to) {
  std::vector<float> all(static_cast<size_t>(logits.n));
  read(logits, all);
  likeliest(all, to);
}

std::unique_ptr<Executor> make_executor(const ExecutorChoice& choice) {
  if (!choice.cuda) return make_cpu_executor(choice.inputs);
  if (choice.gpu_layers < 0) return make_cuda_executor();
  return make_split_executor(make_cpu_executor(choice.inputs), make_cuda_executor(),
                             choice.gpu_layers);
}

}  // namespace pith
