#include "runtime/cuda/gpu_executor.h"

#include <algorithm>
#include <numeric>

#include "runtime/cuda/backend.h"
#include "runtime/cuda/gpu_algebra.h"
#include "runtime/cuda/gpu_attention.h"
#include "runtime/cuda/graph_cache.h"
#include "runtime/cuda/memory_plan.h"
#include "runtime/forward/expand.h"
#include "runtime/forward/routing.h"

namespace pith {
namespace {

using cuda::Ops;

class GpuExecutor final : public Executor {
  using Use = GpuWeights::Use;

 public:
  GpuExecutor(const Ops& ops, std::string name, bool batch_invariant, bool plans = false)
      : context_(ops, plans, batch_invariant), name_(std::move(name)) {}

  std::string description() const override { return "CUDA, " + name_; }
  Algebra& algebra() override { return algebra_; }

  MemoryPlan prepare(const Model& model, const ModelUse& use) override {
    const MemoryPlan plan =
        device_.plans() ? MemoryPlan{} : require_gpu_memory(device_.ops(), model, use);
    context_.weights.pin(model, use.first_block);
    return plan;
  }
  void open_weight_scope() override { context_.weights.open_scope(); }
  void close_weight_scope() override { context_.weights.close_scope(); }
  std::unique_ptr<KvStorage> make_kv_storage(const proto::ModelSpec& spec, KvTypes types,
                                             const KvPages& pages) override {
    return std::make_unique<GpuKvStorage>(device_, spec, types, pages);
  }

  Tensor buffer(TensorId id, int64_t m, int64_t n) override {
    context_.buffer(id, m, n);
    return {id, m, n};
  }
  MatrixRef<float> view(Tensor x) override { return context_.view(x); }
  void read(Tensor x, std::span<float> to) override {
    graphs_.forbid();
    device_.download(to.data(), view(x).data, GpuContext::floats(x.m * x.n));
    if (device_.plans()) std::ranges::fill(to, 1.0f);  // as if a token went to all experts
  }
  void write(std::span<const float> from, Tensor x) override {
    graphs_.forbid();
    device_.upload(view(x).data, from.data(), GpuContext::floats(x.m * x.n));
    device_.wait();
  }
  void wait() override { device_.wait(); }

  void run(const Op& op) override {
    std::visit([&](const auto& o) { execute(o); }, op);
  }

  // Decoding steps are graphs: what they work on is uploaded before, then one launch does all.
  Tensor pass(const Batch& batch, KvStorage& storage, std::span<const int64_t> rows,
              FunctionRef<Tensor()> body) override {
    constexpr size_t kMaxTokens = 64;
    const auto one = [](const Segment& s) { return s.count == 1; };
    if (batch.tokens.size() > kMaxTokens || !std::ranges::all_of(batch.segments, one))
      return body();
    auto& cache = static_cast<GpuKvStorage&>(storage);
    inputs_.upload_step(batch, cache, rows);
    return graphs_.run({cache.id(), batch.tokens.size(), rows.size(), inputs_.chunks()}, body);
  }

  void top(Tensor logits, std::span<Candidate> to) override;
  double mass_behind(Tensor logits, int64_t row, const Candidate& top, const Candidate& last,
                     double temperature) override;
  void score(Tensor logits, std::span<const int32_t> targets, Tensor base,
             std::span<const RowScore> base_scores, std::span<RowScore> to) override;

 private:
  GemmTarget target(const Linear& linear, Tensor y) { return {&linear, view(y)}; }

  template <class Composite>
  void execute(const Composite& op) {
    expand(op, *this);
  }

  void execute(const EmbedOp& op) {
    const MatrixRef<float> x = view(op.x);
    context_.weights.use(*op.table, [&](const GpuLinear& w) {
      if (!w.plain())
        fail(ErrorKind::kUnsupported, "the CUDA backend takes embeddings of one term");
      device_.run(&Ops::embed, {w.tiles(), inputs_.tokens(op.tokens), x.rows, op.scale, x.data});
    });
  }
  void execute(const NormOp& op) {
    const MatrixRef<float> x = view(op.x);
    device_.run(&Ops::norm, {x.data, weight_of(*op.norm), x.rows, x.columns, eps_of(*op.norm),
                             view(op.y).data, op.accumulate});
  }
  void execute(const LinearOp& op) { gemm_.run(*op.linear, view(op.x), view(op.y), op.accumulate); }
  void execute(const RopeOp& op) { attention_.run(op); }
  void execute(const StoreKvOp& op) { attention_.run(op); }
  void execute(const AttentionOp& op) { attention_.run(op); }
  void execute(const ActivateOp& op) {
    const MatrixRef<float> gate = view(op.gate);
    device_.run(&Ops::activate_to_half,
                {activation_of(op.activation), gate.data, view(op.up).data, gate.columns,
                 gemm_.half_workspace(gate.rows, gate.columns)});
  }
  void execute(const CapOp& op) {
    const MatrixRef<float> x = view(op.x);
    device_.run(&Ops::cap, {x.data, x.rows, x.columns, op.limit});
  }
  void execute(const GatherOp& op) {
    const MatrixRef<float> y = view(op.y);
    device_.run(&Ops::gather, {view(op.x).data, inputs_.rows(op.rows), y.rows, y.columns, y.data});
  }
  // By the host, which needs to know the choice to run expert by expert.
  void execute(const RouteOp& op) {
    std::vector<float> logits(static_cast<size_t>(op.logits.m * op.logits.n)),
        weights(logits.size());
    read(op.logits, logits);
    route(*op.spec, logits, *op.choice_bias, weights);
    write(weights, op.weights);
  }
  void execute(const AddRowsOp& op) {
    const MatrixRef<float> x = view(op.x), weights = view(op.weights);
    device_.run(&Ops::add_rows, {x.data, inputs_.rows(op.rows), weights.data + op.column,
                                 weights.columns, x.rows, x.columns, view(op.y).data});
  }
  void execute(const AddGatedOp& op) {
    const MatrixRef<float> x = view(op.x);
    device_.run(&Ops::add_gated, {x.data, view(op.gate).data, x.rows, x.columns, view(op.y).data});
  }
  void execute(const CopyColumnsOp& op) {
    const MatrixRef<float> x = view(op.x), y = view(op.y);
    device_.run(&Ops::copy_columns,
                {x.data + op.from, x.columns, x.rows, op.count, y.data + op.to, y.columns});
  }

  void execute(const LinearsOp& op) {
    GemmTarget all[std::tuple_size_v<decltype(op.to)>];
    const auto to = std::span(all).first(op.targets().size());
    std::ranges::transform(op.targets(), all,
                           [&](const LinearTo& t) { return target(*t.linear, t.y); });
    if (!GpuGemm::rounded_alike(to)) return expand(op, *this);
    const MatrixRef<float> x = view(op.x);
    const Linear& first = *to.front().linear;
    if (gemm_.in_int8(to)) {
      cuda::Int8Inputs inputs{};
      if (op.norm == nullptr) {
        inputs = gemm_.to_int8(first, x);
      } else {
        inputs = gemm_.int8_workspace(first, x.rows, x.columns);
        device_.run(&Ops::norm_to_int8,
                    {x.data, weight_of(*op.norm), x.columns, eps_of(*op.norm), inputs});
      }
      return gemm_.run_int8(to, inputs, false);
    }
    if (op.norm == nullptr) return gemm_.run_all(to, gemm_.to_half(first, x));
    if (rounds_in_blocks(first.input)) {
      execute(NormOp{op.norm, op.x, op.normed});
      return gemm_.run_all(to, gemm_.to_half(first, view(op.normed)));
    }
    const cuda::HalfInputs inputs = gemm_.half_workspace(x.rows, x.columns, first.input);
    device_.run(&Ops::norm_to_half,
                {x.data, weight_of(*op.norm), x.columns, eps_of(*op.norm), inputs});
    gemm_.run_all(to, inputs);
  }

  void execute(const ActivateLinearOp& op) {
    const MatrixRef<float> gate = view(op.gate), up = view(op.up);
    const cuda::Activate how = activation_of(op.activation);
    const GemmTarget to[] = {target(*op.linear, op.y)};
    if (gemm_.in_int8(to)) {
      const cuda::Int8Inputs inputs = gemm_.int8_workspace(*op.linear, gate.rows, gate.columns);
      device_.run(&Ops::activate_to_int8, {how, gate.data, up.data, gate.columns, inputs});
      return gemm_.run_int8(to, inputs, op.accumulate);
    }
    if (rounds_in_blocks(op.linear->input)) return expand(op, *this);
    const cuda::HalfInputs inputs = gemm_.half_workspace(gate.rows, gate.columns, op.linear->input);
    device_.run(&Ops::activate_to_half, {how, gate.data, up.data, gate.columns, inputs});
    gemm_.run(*op.linear, inputs, view(op.y), op.accumulate);
  }

  void execute(const AttentionLinearOp& op) {
    const Linear& o = op.weights->o;
    const MatrixRef<float> attended = view(op.attended);
    const GemmTarget to[] = {target(o, op.y)};
    if (rounds_in_blocks(o.input)) {
      attention_.run(op, {});
      return gemm_.run(o, attended, view(op.y), op.accumulate);
    }
    if (gemm_.in_int8(to)) {
      const cuda::Int8Inputs inputs = gemm_.int8_workspace(o, attended.rows, attended.columns);
      if (!attention_.run(op, {.int8 = inputs}))
        device_.run(&Ops::to_int8, {attended.data, attended.columns, inputs});
      return gemm_.run_int8(to, inputs, op.accumulate);
    }
    const cuda::HalfInputs inputs = gemm_.half_workspace(attended.rows, attended.columns, o.input);
    if (!attention_.run(op, {.half = inputs}))
      device_.run(&Ops::to_half, {attended.data, attended.columns, inputs});
    gemm_.run(o, inputs, view(op.y), op.accumulate);
  }

  void execute(const LatentAttentionOp& op) {
    if (!attention_.run(op)) return expand(op, *this);
    gemm_.run(op.weights->o, view(op.attended), view(op.y), op.accumulate);
  }

  void execute(const MoeOp& op) {
    if (!moe_.run(op)) expand(op, *this);
  }

  const float* weight_of(const NormWeights& norm) {
    return context_.weights.vector(norm.weight, Use::kNorm);
  }
  static float eps_of(const NormWeights& norm) { return static_cast<float>(norm.spec.eps()); }

  GpuContext context_;  // first: its memory is given back last
  GpuDevice& device_ = context_.device;
  const std::string name_;
  GpuAlgebra algebra_{device_, description()};
  StepInputs inputs_{context_};
  GraphCache graphs_{context_, inputs_};
  GpuGemm gemm_{context_};
  GpuMoe moe_{context_, gemm_};
  GpuAttention attention_{context_, inputs_, moe_};
  GpuBuffer keys_, scores_, targets_;
};

void GpuExecutor::top(Tensor logits, std::span<Candidate> to) {
  static_assert(kMaxCandidates <= cuda::kMaxTop);
  const int64_t k = static_cast<int64_t>(to.size()) / logits.m;
  const auto workspace = static_cast<uint64_t>(cuda::top_k_workspace(logits.n, k));
  context_.grow(keys_, (workspace + to.size()) * sizeof(uint64_t));
  auto* const keys = keys_.data<uint64_t>();
  for (int64_t row = 0; row < logits.m; ++row) {
    device_.run(&Ops::top, {view(logits).row(row), logits.n, static_cast<int32_t>(k), keys,
                            keys + workspace + static_cast<uint64_t>(row * k)});
  }
  std::vector<uint64_t> found(to.size());
  device_.download(found.data(), keys + workspace, to.size() * sizeof(uint64_t));
  for (size_t i = 0; i < to.size(); ++i)
    to[i] = {cuda::key_float(found[i]), static_cast<int32_t>(~static_cast<uint32_t>(found[i]))};
}

double GpuExecutor::mass_behind(Tensor logits, int64_t row, const Candidate& top,
                                const Candidate& last, double temperature) {
  const auto chunks = static_cast<size_t>(ceil_div(logits.n, cuda::kTopChunk));
  context_.grow(keys_, chunks * sizeof(double));
  auto* const on_device = keys_.data<double>();
  device_.run(&Ops::mass_behind, {view(logits).row(row), logits.n, top.logit, last.logit, last.id,
                                  temperature, on_device});
  std::vector<double> sums(chunks);
  device_.download(sums.data(), on_device, chunks * sizeof(double));
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

void GpuExecutor::score(Tensor logits, std::span<const int32_t> targets, Tensor base,
                        std::span<const RowScore> base_scores, std::span<RowScore> to) {
  const auto m = static_cast<size_t>(logits.m);
  context_.upload(targets_, targets);
  std::vector<double> log_sums(m);
  for (size_t i = 0; i < m && base; ++i) log_sums[i] = base_scores[i].log_sum;
  // [m] each: log sums of the base, then what comes back.
  context_.grow(scores_, m * (3 * sizeof(double) + sizeof(float) + sizeof(int32_t)));
  auto* const before = scores_.data<double>();
  double *const log_sum = before + m, *const divergence = log_sum + m;
  auto* const target = reinterpret_cast<float*>(divergence + m);
  auto* const top = reinterpret_cast<int32_t*>(target + m);
  device_.upload(before, log_sums.data(), m * sizeof(double));
  device_.run(&Ops::score, {view(logits).data, logits.m, logits.n, targets_.data<int32_t>(),
                            view(base).data, before, log_sum, divergence, target, top});
  std::vector<double> sums(2 * m);
  std::vector<float> of_targets(m);
  std::vector<int32_t> tops(m);
  device_.download(sums.data(), log_sum, 2 * m * sizeof(double));
  device_.download(of_targets.data(), target, m * sizeof(float));
  device_.download(tops.data(), top, m * sizeof(int32_t));
  for (size_t i = 0; i < m; ++i) to[i] = {sums[i], of_targets[i], tops[i], sums[m + i]};
}

}  // namespace

std::unique_ptr<Executor> make_cuda_executor(bool batch_invariant) {
  const CudaBackend& backend = cuda_backend();
  if (backend.ops == nullptr) fail(ErrorKind::kUnavailable, "{}; use --device cpu", backend.note);
  return make_gpu_executor(*backend.ops, backend.devices.front().name, batch_invariant);
}

std::unique_ptr<Executor> make_planning_executor(const Ops& ops) {
  return std::make_unique<GpuExecutor>(ops, "", false, true);
}
std::unique_ptr<Executor> make_gpu_executor(const Ops& ops, std::string name,
                                            bool batch_invariant) {
  return std::make_unique<GpuExecutor>(ops, std::move(name), batch_invariant);
}

}  // namespace pith
