#include "runtime/gpu/gpu_executor.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_map>

#include "core/bytes.h"
#include "runtime/gpu/backend.h"
#include "runtime/gpu/gpu_cache.h"
#include "runtime/gpu/gpu_weight.h"
#include "runtime/rope_angles.h"

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
    default:
      return cuda::Activate::kNone;
  }
}

// A vector that may be of any length, made anew where it changes.
template <class T>
void set(GpuDevice& device, GpuBuffer& to, const std::vector<T>& from) {
  to.require(device, from.size() * sizeof(T));
  device.upload(to.data(), from.data(), from.size() * sizeof(T));
  device.wait();
}

class GpuExecutor final : public Executor {
 public:
  GpuExecutor(const Ops& ops, std::string name) : device_(ops), name_(std::move(name)) {}

  std::string description() const override { return "CUDA, " + name_; }

  void prepare(const Model& model) override {
    require_memory(model);
    const auto keep = [&](const Linear& linear) {
      if (linear.n > 0) linears_.emplace(&linear, take(linear));
    };
    keep(model.embedding);
    for (const auto& block : model.blocks) {
      for (const auto& s : block.sublayers) {
        keep_norm(s.norm);
        if (s.attention) {
          for (const Linear* l :
               {&s.attention->q, &s.attention->k, &s.attention->v, &s.attention->o})
            keep(*l);
          keep_norm(s.attention->query_norm);
          keep_norm(s.attention->key_norm);
        }
        if (s.mlp) {
          for (const Linear* l : {&s.mlp->gate, &s.mlp->up, &s.mlp->down}) keep(*l);
        }
      }
    }
    keep_norm(model.final_norm);
    if (model.own_head) keep(*model.own_head);
  }

  Activation buffer(Slot slot, int64_t m, int64_t n) override {
    GpuBuffer& b = buffers_[static_cast<size_t>(slot)];
    b.require(device_, floats(m * n));
    return {b.data(), m, n};
  }

  std::unique_ptr<KvCache> make_cache(const proto::ModelSpec& spec, int slots, int64_t length,
                                      KvTypes types) override {
    return std::make_unique<GpuKvCache>(device_, spec, slots, length, types);
  }

  void embed(const Linear& table, std::span<const int32_t> tokens, Activation x) override {
    with(table, [&](const OnDevice& w) {
      if (w.terms.size() != 1 || w.terms.front().up)
        fail(ErrorKind::kUnsupported, "the CUDA backend takes embeddings of one term");
      set(device_, tokens_, std::vector<int32_t>(tokens.begin(), tokens.end()));
      device_.run(&Ops::embed, {w.terms.front().w.tiles(), tokens_.data<int32_t>(), x.m, x.f32()});
    });
  }

  void norm(const NormWeights& norm, Activation x, Activation y) override {
    device_.run(&Ops::norm,
                {x.f32(), weight_of(norm), x.m, x.n, static_cast<float>(norm.spec.eps()), y.f32()});
  }

  void linear(const Linear& linear, Activation x, Activation y, bool add) override {
    multiply(linear, to_half(linear, x), y, add);
  }

  void linears(Activation x, std::span<const To> all) override {
    if (!alike(all)) return Executor::linears(x, all);
    const cuda::HalfInputs inputs = to_half(*all.front().linear, x);
    for (const To& to : all) multiply(*to.linear, inputs, to.y, false);
  }

  void norm_linears(const NormWeights& norm, Activation x, Activation normed,
                    std::span<const To> all) override {
    if (!alike(all) || all.front().linear->input.rounds())
      return Executor::norm_linears(norm, x, normed, all);
    const cuda::HalfInputs inputs = room(inputs_, x.m, x.n);
    device_.run(&Ops::norm_to_half,
                {x.f32(), weight_of(norm), x.n, static_cast<float>(norm.spec.eps()), inputs});
    for (const To& to : all) multiply(*to.linear, inputs, to.y, false);
  }

  void activate_linear(proto::Activation activation, Activation gate, Activation up,
                       const Linear& linear, Activation y) override {
    const cuda::HalfInputs inputs = activated(activation, gate, up);
    multiply(linear, linear.input.rounds() ? to_half(linear, gate) : inputs, y, true);
  }

  void rope(const proto::Rope& rope, int64_t head_dim, const Batch& batch, Activation x) override {
    if (angles_.set(rope, batch)) {
      const uint64_t bytes = floats(angles_.tokens() * angles_.half());
      cosines_.require(device_, bytes);
      sines_.require(device_, bytes);
      device_.upload(cosines_.data(), angles_.cosines(), bytes);
      device_.upload(sines_.data(), angles_.sines(), bytes);
      device_.wait();
    }
    device_.run(&Ops::rope, {x.f32(), cosines_.data<float>(), sines_.data<float>(), x.m,
                             x.n / head_dim, head_dim, angles_.half(), rope.interleaved()});
  }

  void attention(const proto::Attention& spec, int index, const Batch& batch, KvCache& cache,
                 Activation q, Activation k, Activation v, Activation out) override {
    auto& gpu_cache = static_cast<GpuKvCache&>(cache);
    set_positions(batch, cache);
    const cuda::Cache c = gpu_cache.of(index);
    const cuda::Positions at{slots_.data<int32_t>(), positions_.data<int32_t>(), q.m};
    const int64_t d = c.head_dim, heads = spec.heads();
    if (gpu_cache.rotated()) {
      device_.run(&Ops::rotate, {q.f32(), q.m * heads, d});
      device_.run(&Ops::rotate, {k.f32(), k.m * c.heads, d});
    }
    device_.run(&Ops::append, {c, at, k.f32(), v.f32()});
    const int64_t chunks = ceil_div(longest_, cuda::kChunkKeys);
    sums_.require(device_, floats(q.m * heads * chunks * (d + 2)));
    const double scale = spec.scale() != 0 ? spec.scale() : 1 / std::sqrt(static_cast<double>(d));
    device_.run(&Ops::attend, {c, at, q.f32(), heads, static_cast<int64_t>(spec.window()),
                               static_cast<float>(scale), chunks, sums_.data<float>(), out.f32()});
  }

  void activate(proto::Activation activation, Activation gate, Activation up) override {
    activated(activation, gate, up);
  }

  void gather(Activation x, std::span<const int64_t> rows, Activation y) override {
    set(device_, rows_, std::vector<int64_t>(rows.begin(), rows.end()));
    device_.run(&Ops::gather, {x.f32(), rows_.data<int64_t>(), y.m, y.n, y.f32()});
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
  struct OnDevice {
    struct Term {
      GpuWeight w;
      std::optional<GpuWeight> up;
    };
    std::vector<Term> terms;
    GpuBuffer bias;
  };
  struct Inputs {
    GpuBuffer values, scales;
  };

  // Above, a weight is converted once for all tokens.
  static constexpr int64_t kTileTokens = 64;
  static constexpr int64_t kSumsAtOnce = int64_t{1} << 22;  // 16 MiB

  static uint64_t floats(int64_t n) { return static_cast<uint64_t>(n) * sizeof(float); }

  // Weights alone: what activations and caches need depends on what is asked for.
  void require_memory(const Model& model) {
    uint64_t needed = 0, available = 0, total = 0;
    const auto add = [&](const Linear& l) {
      for (const auto& t : l.terms) {
        needed += GpuWeight::bytes_of(t.w.encoding, t.w.n, t.w.k);
        if (t.up) needed += GpuWeight::bytes_of(t.up->encoding, t.up->n, t.up->k);
      }
    };
    add(model.embedding);
    for (const auto& block : model.blocks) {
      for (const auto& s : block.sublayers) {
        if (s.attention) {
          for (const Linear* l :
               {&s.attention->q, &s.attention->k, &s.attention->v, &s.attention->o})
            add(*l);
        }
        if (s.mlp) {
          for (const Linear* l : {&s.mlp->gate, &s.mlp->up, &s.mlp->down}) add(*l);
        }
      }
    }
    if (model.own_head) add(*model.own_head);
    GpuDevice::check(device_.ops().memory(&available, &total));
    if (needed > available) {
      fail(ErrorKind::kMemory, "the weights take {} bytes, of which the device has {} ({} in all)",
           needed, available, total);
    }
  }

  OnDevice take(const Linear& linear) {
    OnDevice to;
    for (const auto& t : linear.terms) {
      to.terms.push_back({GpuWeight(device_, t.w), std::nullopt});
      if (t.up) to.terms.back().up = GpuWeight(device_, *t.up);
    }
    to.bias = GpuBuffer(device_, linear.bias.data(), linear.bias.size() * sizeof(float));
    device_.wait();
    return to;
  }
  void keep_norm(const NormWeights& norm) {
    if (norm.weight.empty()) return;
    norms_.emplace(&norm,
                   GpuBuffer(device_, norm.weight.data(), norm.weight.size() * sizeof(float)));
    device_.wait();
  }

  template <class F>
  void with(const Linear& linear, F f) {
    const auto kept = linears_.find(&linear);
    if (kept != linears_.end()) return f(kept->second);
    const OnDevice once = take(linear);
    f(once);
    device_.wait();
  }
  const float* weight_of(const NormWeights& norm) {
    const auto kept = norms_.find(&norm);
    if (kept != norms_.end()) return kept->second.data<float>();
    set(device_, norm_once_, norm.weight);
    return norm_once_.data<float>();
  }

  cuda::HalfInputs room(Inputs& inputs, int64_t m, int64_t k) {
    const auto stride =
        static_cast<int64_t>(round_up(static_cast<uint64_t>(k), cuda::kStageColumns));
    inputs.values.require(device_, static_cast<uint64_t>(m * stride) * sizeof(uint16_t));
    inputs.scales.require(device_, floats(m));
    return {inputs.values.data<uint16_t>(), stride, inputs.scales.data<float>(), m};
  }

  // The inputs of a linear, as it rounds them.
  cuda::HalfInputs to_half(const Linear& linear, Activation x) {
    const float* from = x.f32();
    const InputEncoding& e = linear.input;
    if (e.rounds()) {
      rounded_.require(device_, floats(x.m * x.n));
      device_.run(
          &Ops::round_inputs,
          {x.f32(), x.m, x.n, e.scale == InputScale::kBlock128 ? 128 : x.n, e.dtype != DType::kI8,
           e.scale == InputScale::kTensor ? e.value : 0, rounded_.data<float>()});
      from = rounded_.data<float>();
    }
    const cuda::HalfInputs to = room(inputs_, x.m, x.n);
    device_.run(&Ops::to_half, {from, x.n, to});
    return to;
  }
  cuda::HalfInputs activated(proto::Activation activation, Activation gate, Activation up) {
    const cuda::HalfInputs to = room(inputs_, gate.m, gate.n);
    device_.run(&Ops::activate_to_half, {activation_of(activation), gate.f32(),
                                         static_cast<const float*>(up.data), gate.n, to});
    return to;
  }

  static bool alike(std::span<const To> all) {
    return std::ranges::all_of(
        all, [&](const To& to) { return to.linear->input == all.front().linear->input; });
  }

  void multiply(const Linear& linear, const cuda::HalfInputs& x, Activation y, bool add) {
    with(linear, [&](const OnDevice& on) {
      const float* bias = on.bias.data<float>();
      for (const auto& t : on.terms) {
        cuda::TileProduct p{t.w.tiles(), x, y.f32(), y.n, bias, add};
        if (t.up) {
          const int64_t rank = p.w.n;
          inner_.require(device_, floats(x.m * rank));
          p.y = inner_.data<float>();
          p.ldy = rank;
          p.bias = nullptr;
          p.add = false;
          device_.run(&Ops::tile_product, p);
          const cuda::HalfInputs through = room(inner_inputs_, x.m, rank);
          device_.run(&Ops::to_half, {inner_.data<float>(), rank, through});
          p = {t.up->tiles(), through, y.f32(), y.n, bias, add};
        }
        if (x.m > kTileTokens && device_.ops().has_half_product())
          multiply_by_library(p);
        else
          device_.run(&Ops::tile_product, p);
        bias = nullptr;
        add = true;
      }
    });
  }

  // Rows of the weight as f16, some at a time so that sums stay in the cache of the chip, and then
  // what cuBLAS makes of them.
  void multiply_by_library(const cuda::TileProduct& p) {
    const int64_t rows = std::clamp<int64_t>(kSumsAtOnce / p.x.m, 1, p.w.tiles * cuda::kTileRows);
    const int64_t tiles = ceil_div(rows, cuda::kTileRows);
    const int64_t k = p.w.stages * cuda::kStageColumns;
    halves_.require(device_, static_cast<uint64_t>(tiles * cuda::kTileRows * k) * sizeof(uint16_t));
    products_.require(device_, floats(p.x.m * tiles * cuda::kTileRows));
    cuda::HalfInputs x = p.x;
    for (int64_t first = 0; first < p.w.tiles; first += tiles) {
      const int64_t count = std::min(tiles, p.w.tiles - first), row = first * cuda::kTileRows,
                    n = count * cuda::kTileRows;
      device_.run(&Ops::dequantize, {p.w, first, count, halves_.data<uint16_t>()});
      device_.run(&Ops::half_product, {halves_.data<uint16_t>(), n, x, products_.data<float>()});
      device_.run(&Ops::finish, {products_.data<float>(), n, std::min(n, p.w.n - row), x.scales,
                                 x.m, p.y + row, p.ldy, p.bias ? p.bias + row : nullptr, p.add});
    }
  }

  void set_positions(const Batch& batch, const KvCache& cache) {
    if (std::ranges::equal(segments_, batch.segments)) return;
    std::vector<int32_t> slots, at;
    longest_ = 0;
    for (const auto& s : batch.segments) {
      if (s.slot < 0 || s.slot >= cache.slots() || s.begin < 0 ||
          s.begin + s.count > cache.length()) {
        fail(ErrorKind::kUsage, "tokens {} to {} of sequence {} do not fit a cache of {} x {}",
             s.begin, s.begin + s.count, s.slot, cache.slots(), cache.length());
      }
      for (int64_t i = 0; i < s.count; ++i) {
        slots.push_back(s.slot);
        at.push_back(static_cast<int32_t>(s.begin + i));
      }
      longest_ = std::max(longest_, s.begin + s.count);
    }
    set(device_, slots_, slots);
    set(device_, positions_, at);
    segments_.assign(batch.segments.begin(), batch.segments.end());
  }

  GpuDevice device_;  // first: its memory is given back before it ends
  const std::string name_;
  std::unordered_map<const Linear*, OnDevice> linears_;
  std::unordered_map<const NormWeights*, GpuBuffer> norms_;
  std::array<GpuBuffer, static_cast<size_t>(Slot::kCount)> buffers_;
  GpuBuffer tokens_, rows_, norm_once_, rounded_, inner_, halves_, products_, sums_, cosines_,
      sines_, slots_, positions_;
  Inputs inputs_, inner_inputs_;
  RopeAngles angles_;
  std::vector<Segment> segments_;
  int64_t longest_ = 0;
};

}  // namespace

std::unique_ptr<Executor> make_cuda_executor() {
  const CudaBackend& backend = cuda_backend();
  if (backend.ops == nullptr) fail(ErrorKind::kUnsupported, "no GPU: {}", backend.note);
  return make_gpu_executor(*backend.ops, backend.devices.front().name);
}

std::unique_ptr<Executor> make_executor(const ExecutorChoice& choice) {
  return choice.cuda ? make_cuda_executor() : make_cpu_executor(choice.inputs);
}

std::unique_ptr<Executor> make_gpu_executor(const Ops& ops, std::string name) {
  return std::make_unique<GpuExecutor>(ops, std::move(name));
}

}  // namespace pith
