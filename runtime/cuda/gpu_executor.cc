#include "runtime/cuda/gpu_executor.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <compare>
#include <cstring>
#include <map>
#include <numeric>

#include "core/bytes.h"
#include "runtime/cuda/backend.h"
#include "runtime/cuda/gpu_cache.h"
#include "runtime/cuda/gpu_weights.h"
#include "runtime/cuda/memory_plan.h"
#include "runtime/cuda_kernels/gemm/gemm_plan.h"
#include "runtime/forward/rope_angles.h"

namespace pith {
namespace {

using cuda::Ops;

cuda::Activate activation_of(proto::Activation a) {
  switch (a) {
    case proto::ACTIVATION_SILU:
      return cuda::Activate::kSilu;
    case proto::ACTIVATION_GELU_TANH:
      return cuda::Activate::kGeluTanh;
    case proto::ACTIVATION_GELU:
      return cuda::Activate::kGelu;
    case proto::ACTIVATION_SILU_CLAMPED:
      return cuda::Activate::kClamped;
    default:
      return cuda::Activate::kNone;
  }
}

class GpuExecutor final : public Executor {
  using Use = GpuWeights::Use;

 public:
  GpuExecutor(const Ops& ops, std::string name, bool batch_invariant, bool plans = false)
      : device_(ops, plans), name_(std::move(name)), batch_invariant_(batch_invariant) {
    GpuDevice::check(ops.chip(&chip_), "ask for the chip");
  }

  std::string description() const override { return "CUDA, " + name_; }

  MemoryPlan prepare(const Model& model, const ModelUse& use) override {
    const MemoryPlan plan =
        device_.plans() ? MemoryPlan{} : require_gpu_memory(device_.ops(), model, use);
    weights_.pin(model, use.first_block);
    return plan;
  }

  void open_weight_scope() override { weights_.open_scope(); }
  void close_weight_scope() override { weights_.close_scope(); }
  GpuDevice* gpu() override { return &device_; }

  Activation buffer(Slot slot, int64_t m, int64_t n) override {
    GpuBuffer& b = buffers_[static_cast<size_t>(slot)];
    grow(b, floats(m * n));
    return {b.data(), m, n};
  }

  std::unique_ptr<KvCache> make_cache(const proto::ModelSpec& spec, int slots, int64_t length,
                                      KvTypes types, int64_t pages) override {
    return std::make_unique<GpuKvCache>(device_, spec, slots, length, types, pages);
  }

  void embed(const Linear& table, std::span<const int32_t> tokens, float scale,
             Activation x) override {
    weights_.use(table, [&](const GpuLinear& w) {
      if (!w.plain())
        fail(ErrorKind::kUnsupported, "the CUDA backend takes embeddings of one term");
      if (!inputs_are_set_) set(tokens_, tokens);
      device_.run(&Ops::embed, {w.tiles(), tokens_.data<int32_t>(), x.m, scale, x.f32()});
    });
  }

  void norm(const NormWeights& norm, Activation x, Activation y, bool add) override {
    device_.run(&Ops::norm, {x.f32(), weights_.vector(norm.weight, Use::kNorm), x.m, x.n,
                             static_cast<float>(norm.spec.eps()), y.f32(), add});
  }

  void linear(const Linear& linear, Activation x, Activation y, bool add) override {
    const To to[] = {{&linear, y}};
    if (in_int8(to)) return multiply_int8(to, to_int8(linear, x), add);
    multiply(linear, to_half(linear, x), y, add);
  }

  void linears(Activation x, std::span<const To> all) override {
    if (!alike(all)) return Executor::linears(x, all);
    if (in_int8(all)) return multiply_int8(all, to_int8(*all.front().linear, x), false);
    multiply_all(all, to_half(*all.front().linear, x));
  }

  void norm_linears(const NormWeights& norm, Activation x, Activation normed,
                    std::span<const To> all) override {
    const auto eps = static_cast<float>(norm.spec.eps());
    if (alike(all) && in_int8(all)) {
      const cuda::Int8Inputs inputs = int8_workspace(*all.front().linear, x.m, x.n);
      device_.run(&Ops::norm_to_int8,
                  {x.f32(), weights_.vector(norm.weight, Use::kNorm), x.n, eps, inputs});
      return multiply_int8(all, inputs, false);
    }
    if (!alike(all) || rounds_in_blocks(all.front().linear->input))
      return Executor::norm_linears(norm, x, normed, all);
    const cuda::HalfInputs inputs = workspace(inputs_, x.m, x.n, all.front().linear->input);
    device_.run(&Ops::norm_to_half,
                {x.f32(), weights_.vector(norm.weight, Use::kNorm), x.n, eps, inputs});
    multiply_all(all, inputs);
  }

  void activate_linear(proto::Activation activation, Activation gate, Activation up,
                       const Linear& linear, Activation y, bool add) override {
    const To to[] = {{&linear, y}};
    if (in_int8(to)) {
      const cuda::Int8Inputs inputs = int8_workspace(linear, gate.m, gate.n);
      device_.run(&Ops::activate_to_int8, {activation_of(activation), gate.f32(),
                                           static_cast<const float*>(up.data), gate.n, inputs});
      return multiply_int8(to, inputs, add);
    }
    const bool blocks = rounds_in_blocks(linear.input);
    const cuda::HalfInputs inputs =
        activated(activation, gate, up, blocks ? InputEncoding{} : linear.input);
    multiply(linear, blocks ? to_half(linear, gate) : inputs, y, add);
  }

  void rope(const proto::Rope& rope, int64_t head_dim, const Batch& batch, Activation x) override {
    cuda::WriteKv write{};
    write.cache.head_dim = head_dim;
    write.positions.m = x.m;
    write.q = x.f32();
    write.query_heads = x.n / head_dim;
    bind_rope(&write, rope, batch);
    device_.run(&Ops::write_kv, write);
  }

  void attention(const proto::Attention& spec, const FloatVector& sinks, int index,
                 const Batch& batch, KvCache& cache, Activation q, Activation k, Activation v,
                 Activation out) override {
    attend(spec, nullptr, sinks, index, batch, cache, q, k, v, out, {}, {});
  }
  void attention_linear(const proto::Attention& spec, const AttentionWeights& weights, int index,
                        const Batch& batch, KvCache& cache, Activation q, Activation k,
                        Activation v, Activation attended, Activation y, bool add) override {
    const Linear& o = weights.o;
    const To to[] = {{&o, y}};
    if (rounds_in_blocks(o.input)) {
      attend(spec, &weights, weights.sinks, index, batch, cache, q, k, v, attended, {}, {});
      return linear(o, attended, y, add);
    }
    if (in_int8(to)) {
      const cuda::Int8Inputs inputs = int8_workspace(o, attended.m, attended.n);
      if (!attend(spec, &weights, weights.sinks, index, batch, cache, q, k, v, attended, {},
                  inputs))
        device_.run(&Ops::to_int8, {attended.f32(), attended.n, inputs});
      return multiply_int8(to, inputs, add);
    }
    const cuda::HalfInputs inputs = workspace(inputs_, attended.m, attended.n, o.input);
    if (!attend(spec, &weights, weights.sinks, index, batch, cache, q, k, v, attended, inputs, {}))
      device_.run(&Ops::to_half, {attended.f32(), attended.n, inputs});
    multiply(o, inputs, y, add);
  }

  // All heads in one launch, what is rotated and cached in another. Where heads differ in kind, by
  // the linears one by one.
  void latent_linear(const proto::Attention& spec, const AttentionWeights& weights, int index,
                     const Batch& batch, KvCache& cache, Activation q, Activation kv,
                     Activation attended, Activation y, bool add) override {
    const GpuHeads* const on = weights_.heads(*weights.latent);
    if (on == nullptr) {
      return Executor::latent_linear(spec, weights, index, batch, cache, q, kv, attended, y, add);
    }
    const LatentWeights& latent = *weights.latent;
    auto& gpu_cache = static_cast<GpuKvCache&>(cache);
    if (!inputs_are_set_) set_positions(batch, cache);
    cuda::WriteLatentKv write{};
    bind_rope(&write, spec.rope(), batch);
    write.cache = gpu_cache.of(index);
    write.heads = spec.heads();
    write.plain = plain_dims(spec);
    write.rank = static_cast<int64_t>(spec.latent().rank());
    write.norm = head_norm(spec.key_norm(), weights.key_norm, Use::kKeyNorm);
    const int64_t heads = write.heads, key_dim = write.cache.head_dim, half = write.half,
                  chunks = most_chunks_of(write.cache),
                  of_token = heads * (2 * key_dim + chunks * cuda::chunk_floats(key_dim)),
                  piece = std::clamp<int64_t>(kLatentAtOnce / of_token, 1, q.m);
    const Activation query = buffer(Slot::kLatentQuery, piece * heads, key_dim),
                     out = buffer(Slot::kLatentOut, piece * heads, key_dim);
    const proto::Attention form = cached_form(spec);
    for (int64_t t = 0; t < q.m; t += piece) {
      const int64_t m = std::min(piece, q.m - t);
      write.positions = {slots_.data<int32_t>() + t, positions_.data<int32_t>() + t, m};
      write.q = q.f32() + t * q.n;
      write.kv = kv.f32() + t * kv.n;
      write.query = query.f32();
      multiply_heads(on->key, latent.k_up, write.q, q.n / heads, m, query.f32() + 2 * half,
                     key_dim);
      device_.run(&Ops::write_latent_kv, write);
      write.cosines += m * half;
      write.sines += m * half;
      attend_chunks(form, write.cache, write.positions, query.f32(), nullptr, chunks, out.f32(), {},
                    {});
      multiply_heads(on->value, latent.v_up, out.f32() + 2 * half, key_dim, m,
                     attended.f32() + t * attended.n, attended.n / heads);
    }
    linear(weights.o, attended, y, add);
  }

  // All experts in one launch, without waiting for the choice. Where experts differ in kind, one by
  // one.
  void moe(const proto::Moe& spec, const MoeWeights& weights, Activation x, Activation y) override {
    const GpuExperts* const on = weights_.experts(weights);
    if (on == nullptr || spec.chosen() > cuda::kMostChosen) {
      host_synced_ = true;
      return Executor::moe(spec, weights, x, y);
    }
    const auto experts = static_cast<int32_t>(spec.experts()),
               chosen = static_cast<int32_t>(spec.chosen());
    const MlpWeights& first = weights.experts.front();
    const Activation router = buffer(Slot::kRouter, x.m, experts);
    const cuda::HalfInputs of_router = to_half(weights.router, x);
    multiply(weights.router, of_router, router, false);
    const float* const bias =
        spec.choice_bias() ? weights_.vector(weights.choice_bias, Use::kNorm) : nullptr;
    constexpr int64_t kTokens = 4096;  // at a time
    for (int64_t t = 0; t < x.m; t += kTokens) {
      const int64_t m = std::min(kTokens, x.m - t), pairs = m * chosen;
      grow(chosen_, static_cast<uint64_t>(4 * pairs + experts + 1) * sizeof(int32_t));
      Choice c{};
      c.expert = chosen_.data<int32_t>();
      c.weight = reinterpret_cast<float*>(c.expert + pairs);
      device_.run(&Ops::route, {router.f32() + t * experts, m, experts, chosen, spec.normalized(),
                                spec.sigmoid(), bias, static_cast<int32_t>(spec.groups()),
                                static_cast<int32_t>(spec.chosen_groups()),
                                spec.scale() != 0 ? spec.scale() : 1.0, c.expert, c.weight});
      if (!cuda::pair_by_pair(pairs, experts)) {
        c.place = c.expert + 2 * pairs;
        c.row = c.place + pairs;
        c.first = c.row + pairs;
        device_.run(&Ops::sort_pairs, {c.expert, pairs, experts, chosen, c.place, c.row, c.first});
      }
      // Experts take what the router took, as long as it is there.
      const bool same = t == 0 && x.m <= kTokens && first.up.input == weights.router.input;
      run_experts(spec, *on, first, c,
                  same ? of_router : to_half(first.up, {x.f32() + t * x.n, m, x.n}),
                  {y.f32() + t * y.n, m, y.n});
    }
  }

  void activate(proto::Activation activation, Activation gate, Activation up) override {
    activated(activation, gate, up);
  }
  void cap(Activation x, float limit) override {
    device_.run(&Ops::cap, {x.f32(), x.m, x.n, limit});
  }

  void gather(Activation x, std::span<const int64_t> rows, Activation y) override {
    if (!inputs_are_set_) set(rows_, rows);
    device_.run(&Ops::gather, {x.f32(), rows_.data<int64_t>(), y.m, y.n, y.f32()});
  }
  void add_rows(Activation x, std::span<const int64_t> rows, std::span<const float> weights,
                Activation y) override {
    set(rows_, rows);
    set(row_weights_, weights);
    device_.run(&Ops::add_rows,
                {x.f32(), rows_.data<int64_t>(), row_weights_.data<float>(), x.m, x.n, y.f32()});
  }
  void add_gated(Activation x, Activation gate, Activation y) override {
    device_.run(&Ops::add_gated, {x.f32(), gate.f32(), x.m, x.n, y.f32()});
  }
  void copy_columns(Activation x, int64_t from, Activation y, int64_t to, int64_t count) override {
    device_.run(&Ops::copy_columns, {x.f32() + from, x.n, x.m, count, y.f32() + to, y.n});
  }
  // Decoding steps are graphs: what they work on is uploaded before, then one launch does all. The
  // first pass of a shape runs as it is, so that all memory is there; the second is recorded.
  Activation pass(const Batch& batch, KvCache& cache, std::span<const int64_t> rows,
                  FunctionRef<Activation()> body) override {
    const auto one = [](const Segment& s) { return s.count == 1; };
    if (batch.tokens.size() > kMostOfGraph || !std::ranges::all_of(batch.segments, one))
      return body();
    set_together([&] {
      set(tokens_, batch.tokens);
      set(rows_, rows);
      set_positions(batch, cache);
      for (auto& [name, angles] : angles_) set_angles(angles, batch);
    });
    const GraphKey key{static_cast<GpuKvCache&>(cache).id(), batch.tokens.size(), rows.size(),
                       chunks_of_batch()};
    Recorded& recorded = graphs_[key];
    if (recorded.graph && recorded.generation != generation_) recorded = {};
    if (!recorded.graph) {
      host_synced_ = false;
      weights_.uploaded_since_last();
      if (std::exchange(recorded.runs, recorded.runs + 1) == 0 || recorded.cannot) {
        const uint64_t before = generation_;
        const Activation result = body();
        recorded.cannot = weights_.uploaded_since_last() || host_synced_;
        if (generation_ != before) recorded.runs = 0;
        return result;
      }
      recorded.result = record(body, &recorded.graph);
      recorded.generation = generation_;
    }
    device_.launch(recorded.graph);
    return recorded.result;
  }
  void top(Activation logits, std::span<Candidate> to) override {
    static_assert(kMostCandidates <= cuda::kMostTop);
    const auto k = static_cast<int64_t>(to.size()) / logits.m;
    const auto workspace = static_cast<uint64_t>(cuda::top_k_workspace(logits.n, k));
    grow(keys_, (workspace + to.size()) * sizeof(uint64_t));
    auto* const keys = keys_.data<uint64_t>();
    for (int64_t row = 0; row < logits.m; ++row) {
      device_.run(&Ops::top, {logits.f32() + row * logits.n, logits.n, static_cast<int32_t>(k),
                              keys, keys + workspace + static_cast<uint64_t>(row * k)});
    }
    std::vector<uint64_t> found(to.size());
    device_.download(found.data(), keys + workspace, to.size() * sizeof(uint64_t));
    for (size_t i = 0; i < to.size(); ++i)
      to[i] = {cuda::key_float(found[i]), static_cast<int32_t>(~static_cast<uint32_t>(found[i]))};
  }
  double mass_behind(Activation logits, int64_t row, const Candidate& top, const Candidate& last,
                     double temperature) override {
    const auto chunks = static_cast<size_t>(ceil_div(logits.n, cuda::kTopChunk));
    grow(keys_, chunks * sizeof(double));
    auto* const on_device = keys_.data<double>();
    device_.run(&Ops::mass_behind, {logits.f32() + row * logits.n, logits.n, top.logit, last.logit,
                                    last.id, temperature, on_device});
    std::vector<double> sums(chunks);
    device_.download(sums.data(), on_device, chunks * sizeof(double));
    return std::accumulate(sums.begin(), sums.end(), 0.0);
  }
  void score(Activation logits, std::span<const int32_t> targets, Activation base,
             std::span<const RowScore> base_scores, std::span<RowScore> to) override {
    const auto m = static_cast<size_t>(logits.m);
    set(tokens_, targets);
    std::vector<double> log_sums(m);
    for (size_t i = 0; i < m && base.data != nullptr; ++i) log_sums[i] = base_scores[i].log_sum;
    // [m] each: log sums of the base, then what comes back.
    grow(scores_, m * (3 * sizeof(double) + sizeof(float) + sizeof(int32_t)));
    auto* const before = scores_.data<double>();
    double *const log_sum = before + m, *const divergence = log_sum + m;
    auto* const target = reinterpret_cast<float*>(divergence + m);
    auto* const top = reinterpret_cast<int32_t*>(target + m);
    device_.upload(before, log_sums.data(), m * sizeof(double));
    device_.run(&Ops::score,
                {logits.f32(), logits.m, logits.n, tokens_.data<int32_t>(),
                 static_cast<const float*>(base.data), before, log_sum, divergence, target, top});
    std::vector<double> sums(2 * m);
    std::vector<float> of_targets(m);
    std::vector<int32_t> tops(m);
    device_.download(sums.data(), log_sum, 2 * m * sizeof(double));
    device_.download(of_targets.data(), target, m * sizeof(float));
    device_.download(tops.data(), top, m * sizeof(int32_t));
    for (size_t i = 0; i < m; ++i) to[i] = {sums[i], of_targets[i], tops[i], sums[m + i]};
  }
  void read(Activation x, std::span<float> to) override {
    device_.download(to.data(), x.data, floats(x.m * x.n));
  }
  void write(std::span<const float> from, Activation x) override {
    device_.upload(x.data, from.data(), floats(x.m * x.n));
    device_.wait();
  }
  void wait() override { device_.wait(); }

 private:
  struct GraphKey {
    uint64_t cache;
    size_t tokens, rows;
    int64_t chunks;
    auto operator<=>(const GraphKey&) const = default;
  };
  struct Recorded {
    GpuGraph graph;
    Activation result;
    uint64_t generation = 0;
    int runs = 0;
    bool cannot = false;
  };
  struct Placed {
    GpuBuffer own;
    void* at = nullptr;
    template <class T>
    T* data() const {
      return static_cast<T*>(at);
    }
  };
  struct Angles {
    proto::Rope rope;
    RopeAngles of;
    Placed cosines, sines;
  };
  // Of tokens: by pairs of a token and an expert, and where they are sorted by expert, how.
  struct Choice {
    int32_t* expert;
    float* weight;
    int32_t *place, *row, *first;  // or null
  };
  struct Inputs {
    GpuBuffer values, scales;
  };
  static constexpr size_t kMostOfGraph = 64;                // tokens
  static constexpr int64_t kSumsAtOnce = int64_t{1} << 22;  // 16 MiB
  // Numbers of latent attention, and of sums of chunks: 256 MiB.
  static constexpr int64_t kLatentAtOnce = int64_t{1} << 26, kChunkSumsAtOnce = kLatentAtOnce;

  static uint64_t floats(int64_t n) { return static_cast<uint64_t>(n) * sizeof(float); }

  // Recorded passes hold addresses: they end where memory moves.
  void grow(GpuBuffer& buffer, uint64_t bytes) {
    if (bytes <= buffer.bytes()) return;
    buffer.require(device_, bytes);
    ++generation_;
  }
  template <class T>
  void set(GpuBuffer& to, std::span<const T> from) {
    grow(to, from.size_bytes());
    device_.upload(to.data(), from.data(), from.size_bytes());  // reads it before it returns
  }
  // In memory of its own, or while set_together() runs, beside others.
  template <class T>
  void set(Placed& to, std::span<const T> from) {
    if (!together_) {
      set(to.own, from);
      to.at = to.own.data();
      return;
    }
    const size_t offset = round_up(step_bytes_.size(), 16);
    step_bytes_.resize(offset + from.size_bytes());
    std::memcpy(step_bytes_.data() + offset, from.data(), from.size_bytes());
    step_places_.emplace_back(&to, offset);
  }
  // What `sets` sets goes to the device by one upload, for one shape always to the same place.
  template <class Sets>
  void set_together(Sets sets) {
    step_bytes_.clear();
    step_places_.clear();
    together_ = true;
    try {
      sets();
    } catch (...) {
      together_ = false;
      throw;
    }
    together_ = false;
    set(step_, std::span<const std::byte>(step_bytes_));
    for (const auto& [to, offset] : step_places_) to->at = step_.data<std::byte>() + offset;
  }

  Activation record(FunctionRef<Activation()> body, GpuGraph* to) {
    inputs_are_set_ = true;
    device_.begin_graph();
    Activation result;
    try {
      result = body();
    } catch (...) {
      inputs_are_set_ = false;
      device_.end_graph();  // and forget it
      throw;
    }
    inputs_are_set_ = false;
    *to = device_.end_graph();
    return result;
  }

  template <class WriteKv>
  void bind_rope(WriteKv* write, const proto::Rope& rope, const Batch& batch) {
    const Angles& angles = angles_of(rope, batch);
    write->cosines = angles.cosines.data<float>();
    write->sines = angles.sines.data<float>();
    write->half = angles.of.half();
    write->interleaved = rope.interleaved();
  }

  cuda::HeadNorm head_norm(const proto::Norm& spec, const NormWeights& norm, Use use) {
    if (spec.kind() == proto::NORM_NONE) return {nullptr, 0};
    return {weights_.vector(norm.weight, use), static_cast<float>(spec.eps())};
  }

  // With `weights`, of q and k that are normed and turned as the spec says. Whether what a product
  // takes of the result was written where that was asked for.
  bool attend(const proto::Attention& spec, const AttentionWeights* weights,
              const FloatVector& sinks, int index, const Batch& batch, KvCache& cache, Activation q,
              Activation k, Activation v, Activation out, const cuda::HalfInputs& halves,
              const cuda::Int8Inputs& bytes) {
    auto& gpu_cache = static_cast<GpuKvCache&>(cache);
    if (!inputs_are_set_) set_positions(batch, cache);
    const cuda::Cache c = gpu_cache.of(index);
    const cuda::Positions at{slots_.data<int32_t>(), positions_.data<int32_t>(), q.m};
    const int64_t heads = spec.heads(), window = spec.window();
    cuda::WriteKv write{c,
                        at,
                        q.f32(),
                        heads,
                        k.f32(),
                        v.f32(),
                        nullptr,
                        nullptr,
                        0,
                        false,
                        gpu_cache.rotated(index),
                        {},
                        {}};
    if (weights != nullptr) {
      write.query_norm = head_norm(spec.query_norm(), weights->query_norm, Use::kNorm);
      write.key_norm = head_norm(spec.key_norm(), weights->key_norm, Use::kKeyNorm);
      if (spec.rope().dims() > 0) bind_rope(&write, spec.rope(), batch);
    }
    device_.run(&Ops::write_kv, write);
    const float* const of_nothing = sinks.empty() ? nullptr : weights_.vector(sinks, Use::kSinks);
    if (tile_count_ > 0 && cuda::has_tiles(c)) {
      device_.run(&Ops::attend_tiles,
                  {c, query_tiles_.data<cuda::QueryTile>(), tile_count_, q.f32(), heads, window,
                   scale_of(spec), static_cast<float>(spec.score_cap()), of_nothing, out.f32()});
      return false;
    }
    attend_chunks(spec, c, at, q.f32(), of_nothing, most_chunks_of(c), out.f32(), halves, bytes);
    return true;
  }
  static float scale_of(const proto::Attention& spec) {
    const double d = spec.head_dim();
    return static_cast<float>(spec.scale() != 0 ? spec.scale() : 1 / std::sqrt(d));
  }
  int64_t most_chunks_of(const cuda::Cache& c) const {
    return std::min(chunks_of_batch(), cuda::most_chunks(c.heads));
  }
  void attend_chunks(const proto::Attention& spec, const cuda::Cache& c, const cuda::Positions& at,
                     const float* q, const float* sinks, int64_t chunks, float* out,
                     const cuda::HalfInputs& halves, const cuda::Int8Inputs& bytes) {
    const int64_t heads = spec.heads(), d = c.head_dim,
                  of_token = heads * chunks * cuda::chunk_floats(d),
                  piece = std::clamp<int64_t>(kChunkSumsAtOnce / of_token, 1, at.m);
    grow(sums_, floats(piece * of_token));
    grow(attended_, static_cast<uint64_t>(piece * (heads + 1)) * sizeof(int32_t));
    cuda::Attend some{c,
                      at,
                      q,
                      heads,
                      static_cast<int64_t>(spec.window()),
                      scale_of(spec),
                      static_cast<float>(spec.score_cap()),
                      sinks,
                      chunks,
                      sums_.data<float>(),
                      out,
                      attended_.data<int32_t>(),
                      halves,
                      bytes};
    for (int64_t t = 0; t < at.m; t += piece) {
      const int64_t m = some.positions.m = std::min(piece, at.m - t);
      some.halves.m = some.bytes.m = m;
      device_.run(&Ops::attend, some);
      some.positions.slot += m;
      some.positions.at += m;
      some.q += m * heads * d;
      some.out += m * heads * d;
      some.halves = halves.rows_from(t + m);
      some.bytes = bytes.rows_from(t + m);
    }
  }

  void set_angles(Angles& angles, const Batch& batch) {
    if (!angles.of.set(angles.rope, batch) && !together_) return;
    const auto count = static_cast<size_t>(angles.of.tokens() * angles.of.half());
    set(angles.cosines, std::span(angles.of.cosines(), count));
    set(angles.sines, std::span(angles.of.sines(), count));
  }
  const Angles& angles_of(const proto::Rope& rope, const Batch& batch) {
    rope.SerializeToString(&rope_bytes_);
    const auto [it, is_new] = angles_.try_emplace(rope_bytes_);
    Angles& angles = it->second;
    if (is_new) ++generation_;  // what is set together has other places then
    if (inputs_are_set_) return angles;
    angles.rope = rope;
    set_angles(angles, batch);
    return angles;
  }

  // A power of two, so that few graphs serve a growing context.
  int64_t chunks_of_batch() const {
    return static_cast<int64_t>(
        std::bit_ceil(static_cast<uint64_t>(ceil_div(longest_, cuda::kChunkKeys))));
  }

  // What experts make of these tokens; `like`: one of them.
  void run_experts(const proto::Moe& spec, const GpuExperts& e, const MlpWeights& like,
                   const Choice& c, const cuda::HalfInputs& x, Activation y) {
    const auto chosen = static_cast<int32_t>(spec.chosen());
    const int64_t pairs = x.m * chosen, width = like.up.n;
    const Activation up = buffer(Slot::kUp, pairs, width),
                     made = buffer(Slot::kExpertIo, pairs, y.n);
    Activation gate = up, times{};
    if (spec.expert().gated()) {
      gate = buffer(Slot::kGate, pairs, width);
      times = up;
    }
    const auto experts = static_cast<int32_t>(spec.experts());
    // `sharing` pairs that follow each other have one row of x; where they are sorted, `row` says.
    const auto multiply_pairs = [&](const cuda::ExpertWeights& of, int64_t sharing,
                                    const int32_t* row, const cuda::HalfInputs& inputs) {
      if (c.first == nullptr)
        return device_.run(&Ops::moe_gemv, {of, c.expert, pairs, sharing, inputs});
      device_.run(&Ops::moe_gemm, {of, c.first, experts, x.m, row, inputs,
                                   cuda::plan_experts(of.like, ceil_div(pairs, experts), chip_)});
    };
    cuda::ExpertWeights first{}, last{};
    first.like = e.up.like;
    last.like = e.down.like;
    add_weight(&first, e.up, up.f32());
    if (spec.expert().gated()) add_weight(&first, e.gate, gate.f32());
    add_weight(&last, e.down, made.f32());
    multiply_pairs(first, chosen, c.row, x);
    const cuda::HalfInputs inputs =
        activated(spec.expert().activation(), gate, times, like.down.input);
    multiply_pairs(last, 1, nullptr, inputs);
    device_.run(&Ops::combine_experts, {made.f32(), c.place, c.weight, x.m, y.n, chosen, y.f32()});
  }

  // y[t, h] = weight h times x[t, h], for m tokens; x and y have rows `ldx` and `ldy` apart.
  void multiply_heads(const GpuTable& table, const std::vector<Linear>& linears, const float* x,
                      int64_t ldx, int64_t m, float* y, int64_t ldy) {
    const Linear& first = linears.front();
    const auto heads = static_cast<int32_t>(linears.size());
    const int64_t rows = m * heads;
    const cuda::HalfInputs inputs = workspace(inputs_, rows, first.k, first.input);
    device_.run(&Ops::to_half, {x, first.k, inputs, ldx});
    cuda::ExpertWeights of{};
    of.like = table.like;
    of.ldy = ldy;
    add_weight(&of, table, y);
    if (cuda::pair_by_pair(rows, heads))
      return device_.run(&Ops::moe_gemv, {of, nullptr, rows, 1, inputs, heads});
    device_.run(&Ops::moe_gemm, {of, nullptr, heads, m, nullptr, inputs,
                                 cuda::plan_experts(of.like, cuda::kMostExpertTokens, chip_)});
  }
  static void add_weight(cuda::ExpertWeights* of, const GpuTable& table, float* to) {
    of->weights[of->count] = table.weights.data<cuda::TileWeight>();
    of->bias[of->count] = table.biases.data<float>();
    of->y[of->count++] = to;
  }
  // For inputs that are rounded so.
  cuda::HalfInputs workspace(Inputs& inputs, int64_t m, int64_t k, const InputEncoding& e = {}) {
    const auto stride =
        static_cast<int64_t>(round_up(static_cast<uint64_t>(k), cuda::kStageColumns));
    grow(inputs.values, static_cast<uint64_t>(m * stride) * sizeof(uint16_t));
    grow(inputs.scales, floats(m));
    return {inputs.values.data<uint16_t>(),
            stride,
            inputs.scales.data<float>(),
            m,
            !e.rounds()             ? cuda::RoundTo::kHalf
            : e.dtype == DType::kI8 ? cuda::RoundTo::kInt8
                                    : cuda::RoundTo::kE4M3,
            e.scale == InputScale::kTensor ? e.value : 0};
  }

  // The inputs of a linear, as it rounds them.
  cuda::HalfInputs to_half(const Linear& linear, Activation x) {
    const float* from = x.f32();
    const InputEncoding& e = linear.input;
    if (rounds_in_blocks(e)) {
      grow(rounded_, floats(x.m * x.n));
      device_.run(&Ops::round_inputs,
                  {x.f32(), x.m, x.n, e.dtype != DType::kI8, rounded_.data<float>()});
      from = rounded_.data<float>();
    }
    const cuda::HalfInputs to =
        workspace(inputs_, x.m, x.n, rounds_in_blocks(e) ? InputEncoding{} : e);
    device_.run(&Ops::to_half, {from, x.n, to});
    return to;
  }
  cuda::HalfInputs activated(proto::Activation activation, Activation gate, Activation up,
                             const InputEncoding& e = {}) {
    const cuda::HalfInputs to = workspace(inputs_, gate.m, gate.n, e);
    device_.run(&Ops::activate_to_half, {activation_of(activation), gate.f32(),
                                         static_cast<const float*>(up.data), gate.n, to});
    return to;
  }

  // Whether these are products of integers throughout.
  bool in_int8(std::span<const To> all) const {
    const cuda::TileWeight* first = nullptr;
    return all.size() <= cuda::kMostTargets && std::ranges::all_of(all, [&](const To& to) {
             const InputEncoding& e = to.linear->input;
             if (e.dtype != DType::kI8 || e.scale == InputScale::kBlock128) return false;
             const GpuLinear* const on = weights_.find(*to.linear);
             if (on == nullptr || !on->plain()) return false;
             if (first == nullptr) first = &on->tiles();
             return cuda::takes_int8(on->tiles()) && cuda::alike(on->tiles(), *first);
           });
  }
  cuda::Int8Inputs int8_workspace(const Linear& linear, int64_t m, int64_t k) {
    const cuda::HalfInputs bytes = workspace(inputs_, m, k, linear.input);
    return {reinterpret_cast<int8_t*>(bytes.values), bytes.stride, bytes.scales, m, bytes.fixed};
  }
  cuda::Int8Inputs to_int8(const Linear& linear, Activation x) {
    const cuda::Int8Inputs to = int8_workspace(linear, x.m, x.n);
    device_.run(&Ops::to_int8, {x.f32(), x.n, to});
    return to;
  }
  void multiply_int8(std::span<const To> all, const cuda::Int8Inputs& x, bool add) {
    const auto target = [&](const To& to) -> cuda::TileTarget {
      const GpuLinear& on = *weights_.find(*to.linear);
      return {on.tiles(), to.y.f32(), to.y.n, on.bias.data<float>()};
    };
    if (x.m > cuda::kMostBlockTokens && cuda::has_bytes(target(all.front()).w) &&
        device_.ops().has_cublas_gemm_8(false)) {
      for (const To& to : all) multiply_bytes(target(to), x.values, x.scales, x.m, add);
      return;
    }
    cuda::Int8Gemm p{{}, 0, x, add, {}, {}};
    for (const To& to : all) p.to[p.count++] = target(to);
    run_gemm(&Ops::int8_gemm, p);
  }

  template <class Product>
  void run_gemm(cuda::Status (*Ops::*op)(const Product&, cuda::Stream), Product p) {
    p.plan = cuda::plan_gemm(p, chip_);
    grow(partial_, cuda::workspace_bytes(p, p.plan));
    grow(arrived_, static_cast<uint64_t>(cuda::blocks_of(p, p.plan)) * sizeof(int32_t));
    p.workspace = {partial_.data(), arrived_.data<int32_t>()};
    device_.run(op, p);
  }

  static bool alike(std::span<const To> all) {
    return std::ranges::all_of(
        all, [&](const To& to) { return to.linear->input == all.front().linear->input; });
  }

  void multiply(const Linear& linear, const cuda::HalfInputs& x, Activation y, bool add) {
    weights_.use(linear, [&](const GpuLinear& on) {
      const float* bias = on.bias.data<float>();
      for (const auto& t : on.terms) {
        const GpuWeight* w = &t.w;
        cuda::HalfInputs inputs = x;
        if (t.up) {
          const int64_t rank = t.w.tiles().n;
          grow(inner_, floats(x.m * rank));
          multiply_to({t.w.tiles(), inner_.data<float>(), rank, nullptr}, x, false);
          inputs = workspace(inner_inputs_, x.m, rank);
          device_.run(&Ops::to_half, {inner_.data<float>(), rank, inputs});
          w = &*t.up;
        }
        multiply_to({w->tiles(), y.f32(), y.n, bias}, inputs, add);
        bias = nullptr;
        add = true;
      }
    });
  }

  void multiply_to(const cuda::TileTarget& to, const cuda::HalfInputs& x, bool add) {
    if (many(x) && x.round == cuda::RoundTo::kE4M3 && to.w.codes == cuda::Codes::kE4M3 &&
        cuda::has_bytes(to.w) && device_.ops().has_cublas_gemm_8(true)) {
      const int64_t n = x.m * x.stride;
      grow(bytes_, static_cast<uint64_t>(n));
      device_.run(&Ops::half_to_e4m3, {x.values, n, bytes_.data<uint8_t>()});
      return multiply_bytes(to, bytes_.data(), x.scales, x.m, add);
    }
    if (many(x)) return multiply_by_library(to, x, add);
    run_gemm(&Ops::quant_gemm, cuda::QuantGemm{{to}, 1, x, add, {}, {}});
  }

  // In one launch, where they are plain enough.
  void multiply_all(std::span<const To> all, const cuda::HalfInputs& x) {
    cuda::QuantGemm p{};
    p.x = x;
    bool plain = all.size() <= cuda::kMostTargets && !many(x);
    for (size_t i = 0; plain && i < all.size(); ++i) {
      const GpuLinear* const on = weights_.find(*all[i].linear);
      plain = on != nullptr && on->plain();
      if (!plain) break;
      p.to[p.count++] = {on->tiles(), all[i].y.f32(), all[i].y.n, on->bias.data<float>()};
      plain = cuda::alike(p.to[i].w, p.to[0].w);
    }
    if (plain) return run_gemm(&Ops::quant_gemm, p);
    for (const To& to : all) multiply(*to.linear, x, to.y, false);
  }

  bool many(const cuda::HalfInputs& x) const {
    return x.m > cuda::kMostBlockTokens && !batch_invariant_ && device_.ops().has_cublas();
  }

  // Calls f(first tile, tiles) for pieces of w so large that sums of m tokens stay in the cache of
  // the chip. There is room for the pieces as rows of numbers of `bytes`, and for the sums.
  template <class F>
  void by_pieces(const cuda::TileWeight& w, int64_t m, uint64_t bytes, F f) {
    const int64_t rows = std::clamp<int64_t>(kSumsAtOnce / m, 1, w.tiles * cuda::kTileRows);
    const int64_t tiles = ceil_div(rows, cuda::kTileRows);
    const int64_t k = w.stages * cuda::kStageColumns;
    grow(piece_, static_cast<uint64_t>(tiles * cuda::kTileRows * k) * bytes);
    grow(gemm_output_, floats(m * tiles * cuda::kTileRows));
    for (int64_t first = 0; first < w.tiles; first += tiles)
      f(first, std::min(tiles, w.tiles - first));
  }

  // The weight as f16, and then what cuBLAS makes of it.
  void multiply_by_library(const cuda::TileTarget& to, const cuda::HalfInputs& x, bool add) {
    const cuda::TileWeight& w = to.w;
    by_pieces(w, x.m, sizeof(uint16_t), [&](int64_t first, int64_t count) {
      const int64_t row = first * cuda::kTileRows, n = count * cuda::kTileRows;
      device_.run(&Ops::dequantize, {w, first, count, piece_.data<uint16_t>()});
      device_.run(&Ops::cublas_gemm_f16,
                  {piece_.data<uint16_t>(), n, x, gemm_output_.data<float>()});
      device_.run(&Ops::gemm_epilogue,
                  {gemm_output_.data<float>(), n, std::min(n, w.n - row), x.scales, x.m, to.y + row,
                   to.ldy, to.bias ? to.bias + row : nullptr, add});
    });
  }
  // The same of codes of 8 bits: x [m, columns of stages].
  void multiply_bytes(const cuda::TileTarget& to, const void* x, const float* scales, int64_t m,
                      bool add) {
    const cuda::TileWeight& w = to.w;
    const bool floats = w.codes == cuda::Codes::kE4M3;
    by_pieces(w, m, 1, [&](int64_t first, int64_t count) {
      const int64_t row = first * cuda::kTileRows, n = count * cuda::kTileRows;
      device_.run(&Ops::unpack_bytes, {w, first, count, piece_.data()});
      device_.run(&Ops::cublas_gemm_8, {piece_.data(), x, m, n, w.stages * cuda::kStageColumns,
                                        floats, gemm_output_.data()});
      device_.run(&Ops::int8_epilogue,
                  {gemm_output_.data(), floats, n, std::min(n, w.n - row), m, w, row, scales,
                   to.y + row, to.ldy, to.bias ? to.bias + row : nullptr, add});
    });
  }

  // Of prompts: where no sequence has many tokens, there are none.
  void set_tiles(const Batch& batch) {
    constexpr int64_t kMany = 16;
    std::vector<cuda::QueryTile> tiles;
    bool many = false;
    int64_t row = 0;
    for (const auto& s : batch.segments) {
      many |= s.count >= kMany;
      for (int64_t i = 0; i < s.count; i += cuda::kTileQueries) {
        tiles.push_back({static_cast<int32_t>(row + i),
                         static_cast<int32_t>(std::min(cuda::kTileQueries, s.count - i)), s.slot,
                         static_cast<int32_t>(s.begin + i)});
      }
      row += s.count;
    }
    if (batch_invariant_) many = false;
    tile_count_ = many ? static_cast<int64_t>(tiles.size()) : 0;
    if (many) set(query_tiles_, std::span<const cuda::QueryTile>(tiles));
  }

  void set_positions(const Batch& batch, KvCache& cache) {
    if (!device_.plans()) check_fits(batch, cache);
    static_cast<GpuKvCache&>(cache).upload_tables();
    if (std::ranges::equal(segments_, batch.segments) && !together_) return;
    std::vector<int32_t> slots, at;
    longest_ = 0;
    for (const auto& s : batch.segments) {
      slots.insert(slots.end(), static_cast<size_t>(s.count), s.slot);
      for (int64_t i = 0; i < s.count; ++i) at.push_back(static_cast<int32_t>(s.begin + i));
      longest_ = std::max(longest_, s.begin + s.count);
    }
    set_tiles(batch);
    set(slots_, std::span<const int32_t>(slots));
    set(positions_, std::span<const int32_t>(at));
    segments_.assign(batch.segments.begin(), batch.segments.end());
  }

  GpuDevice device_;  // first: its memory is given back before it ends
  const std::string name_;
  const bool batch_invariant_;
  cuda::Chip chip_{};
  GpuWeights weights_{device_};
  std::array<GpuBuffer, static_cast<size_t>(Slot::kCount)> buffers_;
  GpuBuffer keys_, scores_, partial_, arrived_, rounded_, inner_, piece_, bytes_, gemm_output_,
      sums_, attended_, chosen_, row_weights_, step_;
  Placed tokens_, rows_, slots_, positions_;
  std::vector<std::byte> step_bytes_;
  std::vector<std::pair<Placed*, size_t>> step_places_;
  bool together_ = false;
  Inputs inputs_, inner_inputs_;
  std::map<std::string, Angles> angles_;  // by the bytes of the rope
  std::string rope_bytes_;
  std::vector<Segment> segments_;
  std::map<GraphKey, Recorded> graphs_;
  uint64_t generation_ = 0;      // counts the times that memory moved
  bool inputs_are_set_ = false;  // what a pass works on was uploaded before it
  bool host_synced_ = false;     // a pass waited for the device, for what the host had to know
  GpuBuffer query_tiles_;
  int64_t tile_count_ = 0, longest_ = 0;
};

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
