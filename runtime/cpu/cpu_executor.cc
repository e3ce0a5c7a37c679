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
#include "runtime/forward/kl_divergence.h"
#include "runtime/forward/rope_angles.h"

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
  std::vector<std::string> fallbacks() const override {
    return {scratch_.fallbacks.begin(), scratch_.fallbacks.end()};
  }

  Activation buffer(Slot slot, int64_t m, int64_t n) override {
    auto& b = buffers_[static_cast<size_t>(slot)];
    b.require(m * n);
    return {b.data(), m, n};
  }

  std::unique_ptr<KvCache> make_cache(const proto::ModelSpec& spec, int slots, int64_t length,
                                      KvTypes types, int64_t pages) override {
    return std::make_unique<CpuKvCache>(spec, slots, length, types, pages);
  }

  void embed(const Linear& table, std::span<const int32_t> tokens, float scale,
             Activation x) override {
    parallel_for(x.m, [&](int64_t i) {
      dense_rows(table, tokens[static_cast<size_t>(i)], 1, x.f32() + i * x.n);
      if (scale != 1) kernels_.scale(x.f32() + i * x.n, x.n, scale);
    });
  }

  void norm(const NormWeights& norm, Activation x, Activation y, bool add) override {
    each_row(x, [&](int64_t i) {
      norm_row(norm, x, add ? x : y, i);
      if (add) add_scaled(x.f32() + i * x.n, 1, x.n, y.f32() + i * y.n);
    });
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
                       const Linear& linear, Activation y, bool add) override {
    const auto make = [&](int64_t t) {
      activate_some(activation, gate.f32() + t * gate.n, up.data ? up.f32() + t * gate.n : nullptr,
                    gate.n);
    };
    if (!multiply_rounded(gate, {{{&linear, y}}}, add, make))
      Executor::activate_linear(activation, gate, up, linear, y, add);
  }

  // All heads in one loop over the rows of their weights; the same bits as one after the other.
  void by_head(std::span<const Linear> linears, Activation x, int64_t from, Activation y,
               int64_t to) override {
    const Linear& first = linears.front();
    const auto like_first = [&](const Linear& l) { return rounded_alike(l, first); };
    if (!std::ranges::all_of(linears, like_first))
      return Executor::by_head(linears, x, from, y, to);
    const int64_t heads = std::ssize(linears), m = x.m, n = first.n, of_x = x.n / heads,
                  of_y = y.n / heads;
    // Rows of a head one after the other.
    const Activation taken = buffer(Slot::kHeadInput, heads * m, first.k),
                     made = buffer(Slot::kHeadOutput, heads * m, n);
    round_for(first, taken, [&](int64_t i) {
      std::copy_n(x.f32() + i % m * x.n + i / m * of_x + from, first.k, taken.f32() + i * first.k);
    });
    products_.clear();
    for (int64_t h = 0; h < heads; ++h) {
      const Linear& l = linears[static_cast<size_t>(h)];
      products_.push_back({&l.terms.front().w, made.f32() + h * m * n, false, h * m, m});
    }
    int_matmul(kernels_, rounded_, products_);
    for (int64_t h = 0; h < heads; ++h)
      add_bias(linears[static_cast<size_t>(h)], {made.f32() + h * m * n, m, n});
    each_row(made, [&](int64_t i) {
      std::copy_n(made.f32() + i * n, n, y.f32() + i % m * y.n + i / m * of_y + to);
    });
  }

  void moe(const proto::Moe& spec, const MoeWeights& weights, Activation x, Activation y) override {
    constexpr int64_t kTokens = 512;  // at a time
    const MlpWeights& first = weights.experts.front();
    const bool rounded = std::ranges::all_of(weights.experts, [&](const MlpWeights& w) {
      return (!spec.expert().gated() || rounded_alike(w.gate, first.up)) &&
             rounded_alike(w.up, first.up) && rounded_alike(w.down, first.down);
    });
    if (!rounded) return Executor::moe(spec, weights, x, y);
    for (int64_t t = 0; t < x.m; t += kTokens) {
      const int64_t m = std::min(kTokens, x.m - t);
      const Activation some{x.f32() + t * x.n, m, x.n}, to{y.f32() + t * y.n, m, y.n};
      const std::vector<ExpertTokens> tokens = route_rows(spec, weights, some);
      Pairs pairs;
      pairs.of_row.resize(static_cast<size_t>(m));
      for (size_t e = 0; e < tokens.size(); ++e) {
        const auto& [rows, by] = tokens[e];
        if (rows.empty()) continue;
        const auto before = static_cast<int64_t>(pairs.rows.size());
        pairs.parts.push_back({&weights.experts[e], before, std::ssize(rows)});
        for (const int64_t row : rows) {
          pairs.of_row[static_cast<size_t>(row)].push_back(std::ssize(pairs.rows));
          pairs.rows.push_back(row);
        }
        pairs.weights.insert(pairs.weights.end(), by.begin(), by.end());
      }
      moe_int8(spec.expert(), pairs, some, to);
    }
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

  void attention(const proto::Attention& spec, const FloatVector& sinks, int index,
                 const Batch& batch, KvCache& cache, Activation q, Activation k, Activation v,
                 Activation out) override {
    attend(kernels_, spec, sinks, index, batch, static_cast<CpuKvCache&>(cache), q, k, v, out);
  }

  void activate(proto::Activation activation, Activation gate, Activation up) override {
    const int64_t total = gate.m * gate.n;
    parallel_ranges(total, 1 << 14, [&](int64_t begin, int64_t end) {
      activate_some(activation, gate.f32() + begin, up.data ? up.f32() + begin : nullptr,
                    end - begin);
    });
  }

  void cap(Activation x, float limit) override {
    each_row(x, [&](int64_t i) { kernels_.soft_cap(x.f32() + i * x.n, x.n, limit); });
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
      const auto at = static_cast<size_t>(i);
      add_scaled(x.f32() + i * x.n, weights[at], x.n, y.f32() + rows[at] * y.n);
    });
  }
  void add_gated(Activation x, Activation gate, Activation y) override {
    each_row(x, [&](int64_t i) {
      add_scaled(x.f32() + i * x.n, 1 / (1 + std::exp(-gate.f32()[i])), x.n, y.f32() + i * y.n);
    });
  }
  void copy_columns(Activation x, int64_t from, Activation y, int64_t to, int64_t count) override {
    parallel_ranges(x.m, std::max<int64_t>(1, (1 << 14) / count), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        std::copy_n(x.f32() + i * x.n + from, count, y.f32() + i * y.n + to);
    });
  }
  void top(Activation logits, std::span<Candidate> to) override {
    likeliest_of_rows({logits.f32(), static_cast<size_t>(logits.m * logits.n)}, logits.m, to);
  }
  double mass_behind(Activation logits, int64_t row, const Candidate& top, const Candidate& last,
                     double temperature) override {
    return pith::mass_behind({logits.f32() + row * logits.n, static_cast<size_t>(logits.n)}, top,
                             last, temperature);
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
    if (activation == proto::ACTIVATION_GELU_TANH && u) return kernels_.gelu_tanh_mul(g, u, n);
    if (activation == proto::ACTIVATION_SILU_CLAMPED) {
      constexpr float kLimit = 7;
      for (int64_t i = 0; i < n; ++i) {
        const float low = std::min(g[i], kLimit);
        g[i] = low / (1.0f + std::exp(-1.702f * low)) * (std::clamp(u[i], -kLimit, kLimit) + 1);
      }
      return;
    }
    for (int64_t i = 0; i < n; ++i) {
      const float a = activation == proto::ACTIVATION_GELU        ? gelu(g[i])
                      : activation == proto::ACTIVATION_GELU_TANH ? gelu_tanh(g[i])
                      : activation == proto::ACTIVATION_SILU      ? g[i] / (1.0f + std::exp(-g[i]))
                                                                  : g[i];
      g[i] = u ? a * u[i] : a;
    }
  }

  // Whether both are products of integers with the same rounded inputs.
  bool rounded_alike(const Linear& l, const Linear& first) const {
    if (l.terms.size() != 1 || l.terms.front().up || l.input != first.input) return false;
    if (!has_int_matmul(l.terms.front().w.encoding)) return false;
    return l.input.rounds() ? l.input.dtype == DType::kI8
                            : inputs_ == CpuInputs::kInt8 && block_of(l) == block_of(first);
  }
  static int64_t block_of(const Linear& l) { return input_block(l.terms.front().w.encoding); }
  // Inputs of such linears; make(t) writes row t of x before it is rounded.
  void round_for(const Linear& l, Activation x, FunctionRef<void(int64_t)> make) {
    if (l.input.rounds()) {
      rounded_.set(l.input, x.f32(), x.m, x.n);
    } else {
      rounded_.set_blocks(block_of(l), x.f32(), x.m, x.n);
    }
    rounded_.round_rows(make);
  }

  // Rows of x that experts chose, sorted by expert.
  struct Pairs {
    struct Part {
      const MlpWeights* expert;
      int64_t first, count;
    };
    std::vector<Part> parts;
    std::vector<int64_t> rows;  // of x
    std::vector<float> weights;
    std::vector<std::vector<int64_t>> of_row;  // pairs, in order of experts
  };

  // All experts in one loop over the rows of their weights, and so down; the same bits as one
  // expert after the other. x is a piece of the tokens.
  void moe_int8(const proto::Mlp& spec, const Pairs& p, Activation x, Activation y) {
    const auto count = static_cast<int64_t>(p.rows.size());
    const auto width = static_cast<int64_t>(spec.width());
    const MlpWeights& first = *p.parts.front().expert;
    const Activation taken = buffer(Slot::kExpertIo, count, x.n),
                     up = buffer(Slot::kUp, count, width);
    const Activation gate = spec.gated() ? buffer(Slot::kGate, count, width) : up;
    round_for(first.up, taken, [&](int64_t i) {
      std::memcpy(taken.f32() + i * x.n, x.f32() + p.rows[static_cast<size_t>(i)] * x.n,
                  static_cast<size_t>(x.n) * sizeof(float));
    });
    products_.clear();
    const auto multiply = [&](Linear MlpWeights::*which, Activation to) {
      for (const auto& part : p.parts) {
        const Linear& l = part.expert->*which;
        products_.push_back(
            {&l.terms.front().w, to.f32() + part.first * l.n, false, part.first, part.count});
      }
    };
    const auto add_biases = [&](Linear MlpWeights::*which, Activation to) {
      for (const auto& part : p.parts)
        add_bias(part.expert->*which, {to.f32() + part.first * to.n, part.count, to.n});
    };
    if (spec.gated()) multiply(&MlpWeights::gate, gate);
    multiply(&MlpWeights::up, up);
    int_matmul(kernels_, rounded_, products_);
    if (spec.gated()) add_biases(&MlpWeights::gate, gate);
    add_biases(&MlpWeights::up, up);
    round_for(first.down, gate, [&](int64_t i) {
      activate_some(spec.activation(), gate.f32() + i * width,
                    spec.gated() ? up.f32() + i * width : nullptr, width);
    });
    const Activation made = buffer(Slot::kExpertIo, count, y.n);
    products_.clear();
    multiply(&MlpWeights::down, made);
    int_matmul(kernels_, rounded_, products_);
    add_biases(&MlpWeights::down, made);
    each_row(y, [&](int64_t t) {
      for (const int64_t i : p.of_row[static_cast<size_t>(t)])
        add_scaled(made.f32() + i * y.n, p.weights[static_cast<size_t>(i)], y.n, y.f32() + t * y.n);
    });
  }

  static void add_scaled(const float* x, float by, int64_t n, float* y) {
    for (int64_t i = 0; i < n; ++i) y[i] += by * x[i];
  }

  // All of them by products of integers, where their inputs are rounded alike; make(t) writes row t
  // of x, in the loop that rounds it.
  bool multiply_rounded(Activation x, std::span<const To> all, bool add,
                        FunctionRef<void(int64_t)> make) {
    const Linear& first = *all.front().linear;
    const auto like_first = [&](const To& to) { return rounded_alike(*to.linear, first); };
    if (!std::ranges::all_of(all, like_first)) return false;
    round_for(first, x, make);
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
