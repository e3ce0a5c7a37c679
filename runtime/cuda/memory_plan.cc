#include "runtime/cuda/memory_plan.h"

#include <algorithm>
#include <unordered_map>

#include "core/error.h"
#include "runtime/cuda/device_memory.h"
#include "runtime/cuda/gpu_executor.h"
#include "runtime/forward/forward.h"

namespace pith {
namespace {

using cuda::Ops;
using cuda::Status;
using cuda::Stream;

// Kept back: what the driver and cuBLAS take themselves, and the granularity of the allocator.
constexpr uint64_t kReserve = uint64_t{64} << 20;

// So that what is done once for a pass, to convert weights and to read them, is little beside it.
constexpr int64_t kMaxPassTokens = 4096;

struct Count {
  const Ops* real;
  uint64_t live = 0, peak = 0, next = 1 << 20;
  std::unordered_map<void*, uint64_t> bytes = {};
};
thread_local Count* count = nullptr;  // functions of a table have no other place for it

template <class Arguments>
Status nothing(const Arguments&, Stream) {
  return nullptr;
}

const Ops& counting_ops() {
#define PITH_OP_NOTHING(name, Arguments) .name = nothing,
  static const Ops table = {
      .version = cuda::kOpsVersion,
      .bytes = sizeof(Ops),
      .allocate =
          [](uint64_t bytes, void** to) {
            *to = reinterpret_cast<void*>(count->next);
            count->next += bytes + 1;
            count->bytes[*to] = bytes;
            count->live += bytes;
            count->peak = std::max(count->peak, count->live);
            return Status();
          },
      .release =
          [](void* p) {
            const auto it = count->bytes.find(p);
            if (it == count->bytes.end()) return;
            count->live -= it->second;
            count->bytes.erase(it);
          },
      .memory = [](uint64_t* free, uint64_t* total) { return count->real->memory(free, total); },
      .chip = [](cuda::Chip* to) { return count->real->chip(to); },
      .make_stream =
          [](Stream* to) {
            *to = nullptr;
            return Status();
          },
      .end_stream = [](Stream) {},
      .upload = [](void*, const void*, uint64_t, Stream) { return Status(); },
      .download = [](void*, const void*, uint64_t, Stream) { return Status(); },
      .copy = [](void*, const void*, uint64_t, Stream) { return Status(); },
      .wait = [](Stream) { return Status(); },
      .begin_graph = [](Stream) { return Status(); },
      .end_graph =
          [](Stream, cuda::Graph* to) {
            *to = nullptr;
            return Status();
          },
      .launch_graph = [](cuda::Graph, Stream) { return Status(); },
      .release_graph = [](cuda::Graph) {},
      .has_cublas = [] { return true; },  // without opening it
      .has_cublas_gemm_8 = [](bool) { return true; },
      PITH_CUDA_OPS(PITH_OP_NOTHING)};
#undef PITH_OP_NOTHING
  return table;
}

class Counting {
 public:
  explicit Counting(const Ops& real) : mine_{.real = &real}, before_(count) { count = &mine_; }
  ~Counting() { count = before_; }
  Counting(const Counting&) = delete;
  const Count* operator->() const { return &mine_; }

 private:
  Count mine_;
  Count* before_;
};

// All that is done for these tokens on the layers from `first_block` on.
void pass(Executor& e, const Model& model, int64_t first_block, std::span<const Segment> segments,
          KvCache& cache) {
  std::vector<int32_t> tokens;
  std::vector<int64_t> rows;
  for (const Segment& s : segments) {
    tokens.resize(tokens.size() + static_cast<size_t>(s.count));
    rows.push_back(static_cast<int64_t>(tokens.size()) - 1);
  }
  const Batch batch{tokens, segments};
  std::vector<Candidate> candidates(rows.size() *
                                    std::min<size_t>(Executor::kMaxCandidates, model.spec.vocab()));
  if (first_block == 0) {
    e.top(forward_logits(e, model, batch, cache, rows), candidates);
    return;
  }
  const Tensor x = e.buffer(TensorId::kHidden, static_cast<int64_t>(tokens.size()),
                            static_cast<int64_t>(model.spec.hidden()));
  forward_blocks({e, batch, cache}, model, first_block, x);
  e.top(forward_head(e, model, x, rows), candidates);
}

double mb(uint64_t bytes) { return static_cast<double>(bytes) / 1e6; }

bool fits(const MemoryPlan& p) { return p.needed() <= p.available; }

}  // namespace

MemoryPlan plan_gpu_memory(const Ops& ops, const Model& model, const ModelUse& use) {
  MemoryPlan plan;
  plan.tokens = use.tokens > 0 ? use.tokens : kMaxPassTokens;
  uint64_t total = 0;
  if (const Status bad = ops.memory(&plan.available, &total))
    GpuDevice::check(bad, "ask for the free memory");
  const Counting counted(ops);
  const auto e = make_planning_executor(counting_ops());
  e->prepare(model, use);
  plan.weights = counted->live;
  plan.loading = counted->peak - counted->live;
  if (use.cache.length > 0) {
    proto::ModelSpec spec = model.spec;
    spec.mutable_layers()->DeleteSubrange(0, static_cast<int>(use.first_block));
    const auto cache = e->make_cache(spec, use.cache);
    plan.cache = counted->live - plan.weights;
    const int64_t tokens = std::clamp<int64_t>(plan.tokens, 1, use.cache.length);
    const Segment prompt[] = {{0, use.cache.length - tokens, tokens}};
    pass(*e, model, use.first_block, prompt, *cache);
    std::vector<Segment> step;
    for (int s = 0; s < use.cache.slots; ++s) step.push_back({s, use.cache.length - 1, 1});
    pass(*e, model, use.first_block, step, *cache);
    plan.activations = counted->live - plan.weights - plan.cache + kReserve;
  }
  return plan;
}

MemoryPlan require_gpu_memory(const Ops& ops, const Model& model, const ModelUse& use) {
  ModelUse open = use;
  MemoryPlan plan = plan_gpu_memory(ops, model, open);
  while (!fits(plan) && use.tokens == 0 && plan.tokens > Executor::kPassTokens) {
    open.tokens = plan.tokens / 2;
    plan = plan_gpu_memory(ops, model, open);
  }
  if (fits(plan)) return plan;
  // The fewest layers on the processor with which the rest fits.
  int64_t low = use.first_block + 1, high = static_cast<int64_t>(model.blocks.size());
  while (low < high) {
    ModelUse part = open;
    part.first_block = (low + high) / 2;
    if (fits(plan_gpu_memory(ops, model, part)))
      high = part.first_block;
    else
      low = part.first_block + 1;
  }
  const int64_t layers = static_cast<int64_t>(model.blocks.size()) - low;
  fail(ErrorKind::kMemory,
       "the GPU has {:.1f} MB free of {:.1f} MB that are needed: {:.1f} for weights, {:.1f} for "
       "keys and values, {:.1f} to compute in; {}",
       mb(plan.available), mb(plan.needed()), mb(plan.weights), mb(plan.cache),
       mb(std::max(plan.activations, plan.loading)),
       layers > 0 ? fmt::format("--gpu-layers {} fits", layers) : "not one layer fits");
}

}  // namespace pith
