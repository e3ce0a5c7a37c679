#include "runtime/cpu/cpu_executor.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "core/buffer.h"
#include "core/error.h"
#include "core/parallel.h"
#include "runtime/cpu/attention.h"
#include "runtime/cpu/cpu_algebra.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/matmul.h"
#include "runtime/forward/expand.h"
#include "runtime/forward/kl_divergence.h"
#include "runtime/forward/rope_angles.h"
#include "runtime/forward/routing.h"

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
  Algebra& algebra() override { return cpu_algebra(); }

  Tensor buffer(TensorId id, int64_t m, int64_t n) override {
    buffers_[static_cast<size_t>(id)].require(m * n);
    return {id, m, n};
  }
  MatrixRef<float> view(Tensor x) override {
    if (!x) return {};
    return {buffers_[static_cast<size_t>(x.id)].data(), x.m, x.n};
  }

  std::unique_ptr<KvStorage> make_kv_storage(const proto::ModelSpec& spec, KvTypes types,
                                             const KvPages& pages) override {
    return std::make_unique<CpuKvStorage>(spec, types, pages);
  }

  void run(const Op& op) override {
    std::visit([&](const auto& o) { execute(o); }, op);
  }

  void top(Tensor logits, std::span<Candidate> to) override {
    likeliest_of_rows({view(logits).data, static_cast<size_t>(logits.m * logits.n)}, logits.m, to);
  }
  double mass_behind(Tensor logits, int64_t row, const Candidate& top, const Candidate& last,
                     double temperature) override {
    const float* const of_row = view(logits).data + row * logits.n;
    return pith::mass_behind({of_row, static_cast<size_t>(logits.n)}, top, last, temperature);
  }
  void score(Tensor logits, std::span<const int32_t> targets, Tensor base,
             std::span<const RowScore> base_scores, std::span<RowScore> to) override {
    const int64_t n = logits.n;
    const float *const rows = view(logits).data, *const of_base = view(base).data;
    parallel_for(logits.m, [&](int64_t r) {
      const auto i = static_cast<size_t>(r);
      const float* const q = rows + r * n;
      RowScore& s = to[i];
      s = {kernels_.log_sum_exp(q, n), q[targets[i]],
           static_cast<int32_t>(std::max_element(q, q + n) - q)};
      if (of_base == nullptr) return;
      s.divergence = kl_divergence(of_base + r * n, base_scores[i].log_sum, q, s.log_sum, n);
    });
  }
  void read(Tensor x, std::span<float> to) override {
    std::memcpy(to.data(), view(x).data, static_cast<size_t>(x.m * x.n) * sizeof(float));
  }
  void write(std::span<const float> from, Tensor x) override {
    std::memcpy(view(x).data, from.data(), static_cast<size_t>(x.m * x.n) * sizeof(float));
  }

 private:
  template <class Composite>
  void execute(const Composite& op) {
    expand(op, *this);
  }

  void execute(const EmbedOp& op) {
    const MatrixRef<float> x = view(op.x);
    parallel_for(x.rows, [&](int64_t i) {
      reference_decode(*op.table, op.tokens[static_cast<size_t>(i)], 1, x.row(i));
      if (op.scale != 1) kernels_.scale(x.row(i), x.columns, op.scale);
    });
  }

  void execute(const NormOp& op) {
    const MatrixRef<float> x = view(op.x), y = view(op.y);
    each_row(x, [&](int64_t i) {
      norm_row(*op.norm, x, op.accumulate ? x : y, i);
      if (op.accumulate) add_scaled(x.row(i), 1, x.columns, y.row(i));
    });
  }

  void execute(const LinearOp& op) { multiply(*op.linear, view(op.x), view(op.y), op.accumulate); }

  void execute(const RopeOp& op) {
    angles_.set(*op.rope, op.batch);
    const MatrixRef<float> x = view(op.x);
    const bool interleaved = op.rope->interleaved();
    const int64_t half = angles_.half(), heads = x.columns / op.head_dim;
    const int64_t step = interleaved ? 2 : 1, apart = interleaved ? 1 : half;
    parallel_ranges(x.rows, 16, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const float* const cosines = angles_.cosines() + t * half;
        const float* const sines = angles_.sines() + t * half;
        for (int64_t h = 0; h < heads; ++h) {
          float* const p = x.row(t) + h * op.head_dim;
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

  void execute(const StoreKvOp& op) {
    store_kv(kernels_, storage(op.cache), op.cache.index, op.batch, view(op.k), view(op.v));
  }

  void execute(const AttentionOp& op) {
    run_attention(kernels_, {op.shape, op.sinks, storage(op.cache), op.cache.index, op.batch,
                             view(op.q), view(op.out)});
  }

  void execute(const ActivateOp& op) {
    float *const gate = view(op.gate).data, *const up = view(op.up).data;
    parallel_ranges(op.gate.m * op.gate.n, 1 << 14, [&](int64_t begin, int64_t end) {
      activate_some(op.activation, gate + begin, up ? up + begin : nullptr, end - begin);
    });
  }

  void execute(const CapOp& op) {
    const MatrixRef<float> x = view(op.x);
    each_row(x, [&](int64_t i) { kernels_.soft_cap(x.row(i), x.columns, op.limit); });
  }

  void execute(const GatherOp& op) {
    const MatrixRef<float> x = view(op.x), y = view(op.y);
    for (int64_t i = 0; i < y.rows; ++i)
      std::memcpy(y.row(i), x.row(op.rows[static_cast<size_t>(i)]),
                  static_cast<size_t>(x.columns) * sizeof(float));
  }

  void execute(const RouteOp& op) {
    const auto count = static_cast<size_t>(op.logits.m * op.logits.n);
    route(*op.spec, {view(op.logits).data, count}, *op.choice_bias, {view(op.weights).data, count});
  }

  void execute(const AddRowsOp& op) {
    const MatrixRef<float> x = view(op.x), y = view(op.y), weights = view(op.weights);
    each_row(x, [&](int64_t i) {
      const int64_t row = op.rows[static_cast<size_t>(i)];
      add_scaled(x.row(i), weights.row(row)[op.column], x.columns, y.row(row));
    });
  }

  void execute(const AddGatedOp& op) {
    const MatrixRef<float> x = view(op.x), y = view(op.y);
    const float* const gate = view(op.gate).data;
    each_row(x, [&](int64_t i) {
      add_scaled(x.row(i), 1 / (1 + std::exp(-gate[i])), x.columns, y.row(i));
    });
  }

  void execute(const CopyColumnsOp& op) {
    const MatrixRef<float> x = view(op.x), y = view(op.y);
    const int64_t grain = std::max<int64_t>(1, (1 << 14) / op.count);
    parallel_ranges(x.rows, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        std::copy_n(x.row(i) + op.from, op.count, y.row(i) + op.to);
    });
  }

  // The inputs are rounded once, and threads share out the rows of all.
  void execute(const LinearsOp& op) {
    const MatrixRef<float> x = view(op.x), normed = op.norm != nullptr ? view(op.normed) : x;
    const auto make = [&](int64_t t) {
      if (op.norm != nullptr) norm_row(*op.norm, x, normed, t);
    };
    if (!multiply_rounded(normed, op.targets(), false, make)) expand(op, *this);
  }

  void execute(const ActivateLinearOp& op) {
    const MatrixRef<float> gate = view(op.gate), up = view(op.up);
    const auto make = [&](int64_t t) {
      activate_some(op.activation, gate.row(t), op.up ? up.row(t) : nullptr, gate.columns);
    };
    if (!multiply_rounded(gate, {{{op.linear, op.y}}}, op.accumulate, make)) expand(op, *this);
  }

  // All heads in one loop over the rows of their weights; the same bits as one after the other.
  void execute(const HeadLinearsOp& op) {
    const Linear& first = op.linears.front();
    const auto like_first = [&](const Linear& l) { return rounded_alike(l, first); };
    if (!std::ranges::all_of(op.linears, like_first)) return expand(op, *this);
    const MatrixRef<float> x = view(op.x), y = view(op.y);
    const int64_t heads = std::ssize(op.linears), m = x.rows, n = first.n, of_x = x.columns / heads,
                  of_y = y.columns / heads;
    // Rows of a head one after the other.
    const MatrixRef<float> in = view(buffer(TensorId::kHeadInput, heads * m, first.k)),
                           out = view(buffer(TensorId::kHeadOutput, heads * m, n));
    round_for(first, in, [&](int64_t i) {
      std::copy_n(x.row(i % m) + i / m * of_x + op.from, first.k, in.row(i));
    });
    products_.clear();
    for (int64_t h = 0; h < heads; ++h) {
      const Linear& l = op.linears[static_cast<size_t>(h)];
      products_.push_back({&l.terms.front().w, out.row(h * m), false, h * m, m});
    }
    int_matmul(kernels_, rounded_, products_);
    for (int64_t h = 0; h < heads; ++h)
      add_bias(op.linears[static_cast<size_t>(h)], out.row_block(h * m, m));
    each_row(out,
             [&](int64_t i) { std::copy_n(out.row(i), n, y.row(i % m) + i / m * of_y + op.to); });
  }

  void execute(const MoeOp& op) {
    constexpr int64_t kTokens = 512;  // at a time
    const MoeWeights& weights = *op.weights;
    const MlpWeights& first = weights.experts.front();
    const bool rounded = std::ranges::all_of(weights.experts, [&](const MlpWeights& w) {
      return (!op.spec->expert().gated() || rounded_alike(w.gate, first.up)) &&
             rounded_alike(w.up, first.up) && rounded_alike(w.down, first.down);
    });
    if (!rounded) return expand(op, *this);
    const MatrixRef<float> x = view(op.x), y = view(op.y);
    for (int64_t t = 0; t < x.rows; t += kTokens) {
      const int64_t m = std::min(kTokens, x.rows - t);
      moe_int8(op.spec->expert(), pairs_of(op, x.row_block(t, m)), x.row_block(t, m),
               y.row_block(t, m));
    }
  }

  static CpuKvStorage& storage(const KvLayer& layer) {
    return static_cast<CpuKvStorage&>(*layer.storage);
  }

  // y (+)= x W^T + bias
  void multiply(const Linear& linear, MatrixRef<float> x, MatrixRef<float> y, bool accumulate) {
    if (linear.input.rounds()) rounded_.set(linear.input, x.data, x.rows, x.columns);
    inner_.require(x.rows * ranks_of(linear));
    multiply_terms(linear, x, y, accumulate, inner_.data(), [](const Term&) { return false; });
  }

  static int64_t ranks_of(const Linear& linear) {
    int64_t ranks = 0;
    for (const auto& t : linear.terms) ranks += t.up ? t.w.n : 0;
    return ranks;
  }

  // y (+)= x W^T + bias, where `done` says of which terms the products with x lie in y already, or
  // in `inner`: [m, rank] of each term with `up`, one behind the other.
  template <class Done>
  void multiply_terms(const Linear& linear, MatrixRef<float> x, MatrixRef<float> y, bool accumulate,
                      float* inner, Done done) {
    bool sum = accumulate;
    for (const auto& t : linear.terms) {
      if (!done(t)) multiply_weight(linear.input, t.w, x, t.up ? inner : y.data, sum && !t.up);
      if (t.up) {
        multiply_inner(*t.up, inner, x.rows, y.data, sum);
        inner += x.rows * t.w.n;
      }
      sum = true;
    }
    add_bias(linear, y);
  }

  // `rounded_` holds x where a linear says how its inputs are rounded.
  void multiply_weight(const InputEncoding& input, const Weight& w, MatrixRef<float> x, float* y,
                       bool sum) {
    if (!input.rounds() && (inputs_ == CpuInputs::kF32 || !has_int_matmul(w.encoding)))
      return matmul(kernels_, w, x.data, x.rows, y, sum, scratch_);
    if (!input.rounds()) rounded_.set_blocks(input_block(w.encoding), x.data, x.rows, x.columns);
    matmul(kernels_, w, rounded_, y, sum, scratch_);
  }
  // The second factor of a low-rank term. What a linear says of its inputs is not said of these.
  void multiply_inner(const Weight& up, const float* inner, int64_t m, float* y, bool sum) {
    if (inputs_ == CpuInputs::kF32 || !has_int_matmul(up.encoding))
      return matmul(kernels_, up, inner, m, y, sum, scratch_);
    rounded_inner_.set_blocks(input_block(up.encoding), inner, m, up.k);
    matmul(kernels_, up, rounded_inner_, y, sum, scratch_);
  }

  template <class F>
  void each_row(MatrixRef<float> x, F f) {
    const int64_t grain = std::max<int64_t>(1, (1 << 14) / std::max<int64_t>(1, x.columns));
    parallel_ranges(x.rows, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) f(i);
    });
  }

  void norm_row(const NormWeights& norm, MatrixRef<float> x, MatrixRef<float> y, int64_t i) const {
    kernels_.rms_norm(x.row(i), norm.weight.data(), x.columns, static_cast<float>(norm.spec.eps()),
                      y.row(i));
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

  // Whether both are single products of integers with the same rounded inputs.
  bool rounded_alike(const Linear& l, const Linear& first) const {
    return l.terms.size() == 1 && !l.terms.front().up && begins_alike(l, first);
  }
  // The same of their first terms, whatever comes behind the products with x.
  bool begins_alike(const Linear& l, const Linear& first) const {
    if (l.input != first.input || !has_int_matmul(l.terms.front().w.encoding)) return false;
    return l.input.rounds() ? l.input.dtype == DType::kI8
                            : inputs_ == CpuInputs::kInt8 && block_of(l) == block_of(first);
  }
  static int64_t block_of(const Linear& l) { return input_block(l.terms.front().w.encoding); }
  // Inputs of such linears; make(t) writes row t of x before it is rounded.
  void round_for(const Linear& l, MatrixRef<float> x, FunctionRef<void(int64_t)> make) {
    if (l.input.rounds()) {
      rounded_.set(l.input, x.data, x.rows, x.columns);
    } else {
      rounded_.set_blocks(block_of(l), x.data, x.rows, x.columns);
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

  Pairs pairs_of(const MoeOp& op, MatrixRef<float> x) {
    const int64_t experts = op.spec->experts();
    const auto count = static_cast<size_t>(x.rows * experts);
    const MatrixRef<float> logits = view(buffer(TensorId::kRouter, x.rows, experts)),
                           weights = view(buffer(TensorId::kRouterWeights, x.rows, experts));
    multiply(op.weights->router, x, logits, false);
    route(*op.spec, {logits.data, count}, op.weights->choice_bias, {weights.data, count});
    const auto rows_of = rows_of_experts({weights.data, count}, experts);
    Pairs pairs;
    pairs.of_row.resize(static_cast<size_t>(x.rows));
    for (size_t e = 0; e < rows_of.size(); ++e) {
      if (rows_of[e].empty()) continue;
      pairs.parts.push_back(
          {&op.weights->experts[e], std::ssize(pairs.rows), std::ssize(rows_of[e])});
      for (const int64_t row : rows_of[e]) {
        pairs.of_row[static_cast<size_t>(row)].push_back(std::ssize(pairs.rows));
        pairs.rows.push_back(row);
        pairs.weights.push_back(weights.row(row)[e]);
      }
    }
    return pairs;
  }

  // All experts in one loop over the rows of their weights, and so down; the same bits as one
  // expert after the other. x is a piece of the tokens.
  void moe_int8(const proto::Mlp& spec, const Pairs& p, MatrixRef<float> x, MatrixRef<float> y) {
    const auto count = static_cast<int64_t>(p.rows.size());
    const auto width = static_cast<int64_t>(spec.width());
    const MlpWeights& first = *p.parts.front().expert;
    const MatrixRef<float> in = view(buffer(TensorId::kExpertIo, count, x.columns)),
                           up = view(buffer(TensorId::kUp, count, width));
    const MatrixRef<float> gate = spec.gated() ? view(buffer(TensorId::kGate, count, width)) : up;
    round_for(first.up, in, [&](int64_t i) {
      std::memcpy(in.row(i), x.row(p.rows[static_cast<size_t>(i)]),
                  static_cast<size_t>(x.columns) * sizeof(float));
    });
    products_.clear();
    const auto add_products = [&](Linear MlpWeights::*which, MatrixRef<float> to) {
      for (const auto& part : p.parts) {
        const Linear& l = part.expert->*which;
        products_.push_back(
            {&l.terms.front().w, to.row(part.first), false, part.first, part.count});
      }
    };
    const auto add_biases = [&](Linear MlpWeights::*which, MatrixRef<float> to) {
      for (const auto& part : p.parts)
        add_bias(part.expert->*which, to.row_block(part.first, part.count));
    };
    if (spec.gated()) add_products(&MlpWeights::gate, gate);
    add_products(&MlpWeights::up, up);
    int_matmul(kernels_, rounded_, products_);
    if (spec.gated()) add_biases(&MlpWeights::gate, gate);
    add_biases(&MlpWeights::up, up);
    round_for(first.down, gate, [&](int64_t i) {
      activate_some(spec.activation(), gate.row(i), spec.gated() ? up.row(i) : nullptr, width);
    });
    const MatrixRef<float> out = view(buffer(TensorId::kExpertIo, count, y.columns));
    products_.clear();
    add_products(&MlpWeights::down, out);
    int_matmul(kernels_, rounded_, products_);
    add_biases(&MlpWeights::down, out);
    each_row(y, [&](int64_t t) {
      for (const int64_t i : p.of_row[static_cast<size_t>(t)])
        add_scaled(out.row(i), p.weights[static_cast<size_t>(i)], y.columns, y.row(t));
    });
  }

  static void add_scaled(const float* x, float by, int64_t n, float* y) {
    for (int64_t i = 0; i < n; ++i) y[i] += by * x[i];
  }

  // All of them, where their inputs are rounded alike: those products of integers with x that do not
  // have to wait for others in one loop, then what is left of each. make(t) writes row t of x, in
  // the loop that rounds it.
  bool multiply_rounded(MatrixRef<float> x, std::span<const LinearTo> all, bool accumulate,
                        FunctionRef<void(int64_t)> make) {
    const Linear& first = *all.front().linear;
    int64_t ranks = 0;
    for (const LinearTo& to : all) {
      if (!begins_alike(*to.linear, first)) return false;
      ranks += ranks_of(*to.linear);
    }
    inner_.require(x.rows * ranks);
    round_for(first, x, make);
    products_.clear();
    float* inner = inner_.data();
    for (const LinearTo& to : all) {
      for (const auto& t : to.linear->terms) {
        float* const y = t.up ? inner : view(to.y).data;
        if (t.up) inner += x.rows * t.w.n;
        if (goes_first(t, *to.linear)) products_.push_back({&t.w, y, accumulate && !t.up});
      }
    }
    int_matmul(kernels_, rounded_, products_);
    inner = inner_.data();
    for (const LinearTo& to : all) {
      multiply_terms(*to.linear, x, view(to.y), accumulate, inner,
                     [&](const Term& t) { return goes_first(t, *to.linear); });
      inner += x.rows * ranks_of(*to.linear);
    }
    return true;
  }
  // A product of the joint loop: it has an output of its own, and the inputs of the first term.
  static bool goes_first(const Term& t, const Linear& l) {
    const Term& front = l.terms.front();
    return &t == &front || (t.up && has_int_matmul(t.w.encoding) &&
                            input_block(t.w.encoding) == input_block(front.w.encoding));
  }

  void add_bias(const Linear& linear, MatrixRef<float> y) {
    if (linear.bias.empty()) return;
    each_row(y, [&](int64_t i) {
      float* const row = y.row(i);
      for (int64_t j = 0; j < y.columns; ++j) row[j] += linear.bias[static_cast<size_t>(j)];
    });
  }

  const CpuInputs inputs_;
  const CpuKernels& kernels_ = cpu_kernels();
  std::array<Buffer<float>, kTensorIds> buffers_;
  Buffer<float> inner_;
  RoundedInputs rounded_, rounded_inner_;
  MatmulScratch scratch_;
  std::vector<IntProductTo> products_;
  RopeAngles angles_;
};

}  // namespace

std::unique_ptr<Executor> make_cpu_executor(CpuInputs inputs) {
  return std::make_unique<CpuExecutor>(inputs);
}

}  // namespace pith
