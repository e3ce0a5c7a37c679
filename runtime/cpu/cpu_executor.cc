#include "runtime/cpu/cpu_executor.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "core/buffer.h"
#include "core/error.h"
#include "core/parallel.h"
#include "runtime/cpu/attention.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/matmul.h"
#include "runtime/eval/divergence.h"
#include "runtime/rope_angles.h"

namespace pith {
namespace {

float gelu(float x) { return 0.5f * x * (1.0f + std::erf(x * 0.70710678118654752f)); }
float gelu_tanh(float x) {
  return 0.5f * x * (1.0f + std::tanh(0.79788456080286536f * (x + 0.044715f * x * x * x)));
}

class CpuExecutor final : public Executor {
 public:
  explicit CpuExecutor(CpuInputs inputs) : inputs_(inputs) {}

  std::string description() const override {
    return fmt::format("CPU, {}, {} threads", kernels_.name, thread_count());
  }

  Activation buffer(Slot slot, int64_t m, int64_t n) override {
    auto& b = buffers_[static_cast<size_t>(slot)];
    b.require(m * n);
    return {b.data(), m, n};
  }

  std::unique_ptr<KvCache> make_cache(const proto::ModelSpec& spec, int slots, int64_t length,
                                      KvTypes types) override {
    return std::make_unique<CpuKvCache>(spec, slots, length, types);
  }

  void embed(const Linear& table, std::span<const int32_t> tokens, Activation x) override {
    parallel_for(x.m, [&](int64_t i) {
      dense_rows(table, tokens[static_cast<size_t>(i)], 1, x.f32() + i * x.n);
    });
  }

  void norm(const NormWeights& norm, Activation x, Activation y) override {
    each_row(x, [&](int64_t i) { norm_row(norm, x, y, i); });
  }

  void linear(const Linear& linear, Activation x, Activation y, bool add) override {
    const bool rounds = linear.input.rounds();
    if (rounds) rounded_.set(linear.input, x.f32(), x.m, x.n);
    const auto multiply = [&](const Weight& w, float* to, bool sum) {
      if (!rounds && (inputs_ == CpuInputs::kF32 || !has_int_matmul(w.encoding)))
        return matmul(kernels_, w, x.f32(), x.m, to, sum, scratch_);
      if (!rounds) rounded_.set_blocks(input_block(w.encoding), x.f32(), x.m, x.n);
      matmul(kernels_, w, rounded_, to, sum, scratch_);
    };
    bool sum = add;
    for (const auto& t : linear.terms) {
      if (t.up) {
        inner_.require(x.m * t.w.n);
        multiply(t.w, inner_.data(), false);
        matmul(kernels_, *t.up, inner_.data(), x.m, y.f32(), sum, scratch_);
      } else {
        multiply(t.w, y.f32(), sum);
      }
      sum = true;
    }
    add_bias(linear, y);
  }

  // The inputs are rounded once, and threads share out the rows of all.
  void linears(Activation x, std::span<const To> all) override {
    if (!multiply_rounded(x, all, false, [](int64_t) {})) Executor::linears(x, all);
  }
  void norm_linears(const NormWeights& norm, Activation x, Activation normed,
                    std::span<const To> all) override {
    const auto make = [&](int64_t t) { norm_row(norm, x, normed, t); };
    if (!multiply_rounded(normed, all, false, make)) Executor::norm_linears(norm, x, normed, all);
  }
  void activate_linear(proto::Activation activation, Activation gate, Activation up,
                       const Linear& linear, Activation y) override {
    const auto make = [&](int64_t t) {
      activate_some(activation, gate.f32() + t * gate.n, up.data ? up.f32() + t * gate.n : nullptr,
                    gate.n);
    };
    if (!multiply_rounded(gate, {{{&linear, y}}}, true, make))
      Executor::activate_linear(activation, gate, up, linear, y);
  }

  void rope(const proto::Rope& rope, int64_t head_dim, const Batch& batch, Activation x) override {
    angles_.set(rope, batch);
    const int64_t half = angles_.half(), heads = x.n / head_dim;
    const int64_t step = rope.interleaved() ? 2 : 1, apart = rope.interleaved() ? 1 : half;
    parallel_ranges(x.m, 16, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const float* const cosines = angles_.cosines() + t * half;
        const float* const sines = angles_.sines() + t * half;
        for (int64_t h = 0; h < heads; ++h) {
          float* const p = x.f32() + t * x.n + h * head_dim;
          for (int64_t i = 0; i < half; ++i) {
            float& a = p[i * step];
            float& b = p[i * step + apart];
            const float a0 = a, b0 = b;
            a = a0 * cosines[i] - b0 * sines[i];
            b = b0 * cosines[i] + a0 * sines[i];
          }
        }
      }
    });
  }

  void attention(const proto::Attention& spec, int index, const Batch& batch, KvCache& cache,
                 Activation q, Activation k, Activation v, Activation out) override {
    attend(kernels_, spec, index, batch, static_cast<CpuKvCache&>(cache), q, k, v, out);
  }

  void activate(proto::Activation activation, Activation gate, Activation up) override {
    const int64_t total = gate.m * gate.n;
    parallel_ranges(total, 1 << 14, [&](int64_t begin, int64_t end) {
      activate_some(activation, gate.f32() + begin, up.data ? up.f32() + begin : nullptr,
                    end - begin);
    });
  }

  void gather(Activation x, std::span<const int64_t> rows, Activation y) override {
    for (int64_t i = 0; i < y.m; ++i) {
      std::memcpy(y.f32() + i * y.n, x.f32() + rows[static_cast<size_t>(i)] * x.n,
                  static_cast<size_t>(x.n) * sizeof(float));
    }
  }
  void add_rows(Activation x, std::span<const int64_t> rows, std::span<const float> weights,
                Activation y) override {
    each_row(x, [&](int64_t i) {
      const float* const from = x.f32() + i * x.n;
      float* const to = y.f32() + rows[static_cast<size_t>(i)] * y.n;
      const float by = weights[static_cast<size_t>(i)];
      for (int64_t j = 0; j < x.n; ++j) to[j] += by * from[j];
    });
  }
  void top(Activation logits, std::span<Candidate> to) override {
    likeliest({logits.f32(), static_cast<size_t>(logits.n)}, to);
  }
  double mass_behind(Activation logits, const Candidate& top, const Candidate& last,
                     double temperature) override {
    return pith::mass_behind({logits.f32(), static_cast<size_t>(logits.n)}, top, last, temperature);
  }
  void score(Activation logits, std::span<const int32_t> targets, Activation base,
             std::span<const RowScore> base_scores, std::span<RowScore> to) override {
    const int64_t n = logits.n;
    parallel_for(logits.m, [&](int64_t r) {
      const auto i = static_cast<size_t>(r);
      const float* const q = logits.f32() + r * n;
      RowScore& s = to[i];
      s = {kernels_.log_sum_exp(q, n), q[targets[i]],
           static_cast<int32_t>(std::max_element(q, q + n) - q)};
      if (base.data == nullptr) return;
      s.divergence = kl_divergence(base.f32() + r * n, base_scores[i].log_sum, q, s.log_sum, n);
    });
  }
  void read(Activation x, std::span<float> to) override {
    std::memcpy(to.data(), x.data, static_cast<size_t>(x.m * x.n) * sizeof(float));
  }
  void write(std::span<const float> from, Activation x) override {
    std::memcpy(x.data, from.data(), static_cast<size_t>(x.m * x.n) * sizeof(float));
  }

 private:
  template <class F>
  void each_row(Activation x, F f) {
    const int64_t grain = std::max<int64_t>(1, (1 << 14) / std::max<int64_t>(1, x.n));
    parallel_ranges(x.m, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) f(i);
    });
  }

  void norm_row(const NormWeights& norm, Activation x, Activation y, int64_t i) const {
    kernels_.rms_norm(x.f32() + i * x.n, norm.weight.data(), x.n,
                      static_cast<float>(norm.spec.eps()), y.f32() + i * y.n);
  }

  void activate_some(proto::Activation activation, float* g, const float* u, int64_t n) const {
    if (activation == proto::ACTIVATION_SILU && u) return kernels_.silu_mul(g, u, n);
    for (int64_t i = 0; i < n; ++i) {
      const float a = activation == proto::ACTIVATION_GELU        ? gelu(g[i])
                      : activation == proto::ACTIVATION_GELU_TANH ? gelu_tanh(g[i])
                      : activation == proto::ACTIVATION_SILU      ? g[i] / (1.0f + std::exp(-g[i]))
                                                                  : g[i];
      g[i] = u ? a * u[i] : a;
    }
  }

  // All of them by products of integers, where their inputs are rounded alike; make(t) writes row t
  // of x, in the loop that rounds it.
  bool multiply_rounded(Activation x, std::span<const To> all, bool add,
                        FunctionRef<void(int64_t)> make) {
    const Linear& first = *all.front().linear;
    const auto block = [](const Linear& l) { return input_block(l.terms.front().w.encoding); };
    const bool alike = std::ranges::all_of(all, [&](const To& to) {
      const Linear& l = *to.linear;
      if (l.terms.size() != 1 || l.terms.front().up || l.input != first.input) return false;
      if (!has_int_matmul(l.terms.front().w.encoding)) return false;
      return l.input.rounds() ? l.input.dtype == DType::kI8
                              : inputs_ == CpuInputs::kInt8 && block(l) == block(first);
    });
    if (!alike) return false;
    if (first.input.rounds()) {
      rounded_.set(first.input, x.f32(), x.m, x.n);
    } else {
      rounded_.set_blocks(block(first), x.f32(), x.m, x.n);
    }
    rounded_.round_rows(make);
    products_.clear();
    for (const To& to : all) products_.push_back({&to.linear->terms.front().w, to.y.f32(), add});
    int_matmul(kernels_, rounded_, products_);
    for (const To& to : all) add_bias(*to.linear, to.y);
    return true;
  }

  void add_bias(const Linear& linear, Activation y) {
    if (linear.bias.empty()) return;
    each_row(y, [&](int64_t i) {
      float* row = y.f32() + i * y.n;
      for (int64_t j = 0; j < y.n; ++j) row[j] += linear.bias[static_cast<size_t>(j)];
    });
  }

  const CpuInputs inputs_;
  const CpuKernels& kernels_ = cpu_kernels();
  std::array<Buffer<float>, static_cast<size_t>(Slot::kCount)> buffers_;
  Buffer<float> inner_;
  RoundedInputs rounded_;
  MatmulScratch scratch_;
  std::vector<IntProductTo> products_;
  RopeAngles angles_;
};

}  // namespace

std::unique_ptr<Executor> make_cpu_executor(CpuInputs inputs) {
  return std::make_unique<CpuExecutor>(inputs);
}

}  // namespace pith
