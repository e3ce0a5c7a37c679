#include "runtime/cuda/gpu_moe.h"

#include <algorithm>

#include "runtime/cuda_kernels/gemm/gemm_plan.h"

namespace pith {

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

bool GpuMoe::run(const MoeOp& op) {
  const proto::Moe& spec = *op.spec;
  const MoeWeights& weights = *op.weights;
  if (context_.weights.experts(weights) == nullptr || spec.chosen() > cuda::kMaxChosen)
    return false;
  constexpr int64_t kTokens = 4096;  // at a time
  const MatrixRef<float> x = context_.view(op.x), y = context_.view(op.y);
  const InputEncoding& rounding = weights.experts.front().up.input;
  const MatrixRef<float> logits = context_.buffer(TensorId::kRouter, x.rows, spec.experts());
  const cuda::HalfInputs of_router = gemm_.to_half(weights.router, x);
  gemm_.run(weights.router, of_router, logits, false);
  for (int64_t t = 0; t < x.rows; t += kTokens) {
    const int64_t m = std::min(kTokens, x.rows - t);
    const Choice choice = choose(op, logits.row(t), m);
    // Experts take what the router took, as long as it is there.
    const bool same = t == 0 && x.rows <= kTokens && rounding == weights.router.input;
    run_experts(op, choice,
                same ? of_router : gemm_.to_half(weights.experts.front().up, x.row_block(t, m)),
                y.row_block(t, m));
  }
  return true;
}

GpuMoe::Choice GpuMoe::choose(const MoeOp& op, const float* logits, int64_t m) {
  const proto::Moe& spec = *op.spec;
  const auto experts = static_cast<int32_t>(spec.experts()),
             chosen = static_cast<int32_t>(spec.chosen());
  const int64_t pairs = m * chosen;
  const float* const bias =
      spec.choice_bias() ? context_.weights.vector(op.weights->choice_bias, GpuWeights::Use::kNorm)
                         : nullptr;
  context_.grow(chosen_, static_cast<uint64_t>(4 * pairs + experts + 1) * sizeof(int32_t));
  Choice c{};
  c.expert = chosen_.data<int32_t>();
  c.weight = reinterpret_cast<float*>(c.expert + pairs);
  context_.device.run(
      &Ops::route, {logits, m, experts, chosen, spec.normalized(), spec.sigmoid(), bias,
                    static_cast<int32_t>(spec.groups()), static_cast<int32_t>(spec.chosen_groups()),
                    spec.scale() != 0 ? spec.scale() : 1.0, c.expert, c.weight});
  if (cuda::pair_by_pair(pairs, experts)) return c;
  c.place = c.expert + 2 * pairs;
  c.row = c.place + pairs;
  c.first = c.row + pairs;
  context_.device.run(&Ops::sort_pairs,
                      {c.expert, pairs, experts, chosen, c.place, c.row, c.first});
  return c;
}

void GpuMoe::run_experts(const MoeOp& op, const Choice& c, const cuda::HalfInputs& x,
                         MatrixRef<float> y) {
  GpuDevice& device = context_.device;
  const proto::Moe& spec = *op.spec;
  const GpuExperts& weights = *context_.weights.experts(*op.weights);
  const MlpWeights& like = op.weights->experts.front();
  const auto chosen = static_cast<int32_t>(spec.chosen()),
             experts = static_cast<int32_t>(spec.experts());
  const int64_t pairs = x.m * chosen, width = like.up.n;
  const bool gated = spec.expert().gated();
  const MatrixRef<float> up = context_.buffer(TensorId::kUp, pairs, width),
                         out = context_.buffer(TensorId::kExpertIo, pairs, y.columns),
                         gate = gated ? context_.buffer(TensorId::kGate, pairs, width) : up;
  // `sharing` pairs that follow each other have one row of x; where they are sorted, `row` says.
  const auto multiply_pairs = [&](const cuda::ExpertWeights& of, int64_t sharing,
                                  const int32_t* row, const cuda::HalfInputs& inputs) {
    if (c.first == nullptr)
      return device.run(&Ops::moe_gemv, {of, c.expert, pairs, sharing, inputs});
    device.run(&Ops::moe_gemm,
               {of, c.first, experts, x.m, row, inputs,
                cuda::plan_experts(of.like, ceil_div(pairs, experts), context_.chip)});
  };
  cuda::ExpertWeights first{}, last{};
  first.like = weights.up.like;
  last.like = weights.down.like;
  add_weight(&first, weights.up, up.data);
  if (gated) add_weight(&first, weights.gate, gate.data);
  add_weight(&last, weights.down, out.data);
  multiply_pairs(first, chosen, c.row, x);
  const cuda::HalfInputs inputs = gemm_.half_workspace(pairs, width, like.down.input);
  device.run(&Ops::activate_to_half, {activation_of(spec.expert().activation()), gate.data,
                                      gated ? up.data : nullptr, width, inputs});
  multiply_pairs(last, 1, nullptr, inputs);
  device.run(&Ops::combine_experts, {out.data, c.place, c.weight, x.m, y.columns, chosen, y.data});
}

void GpuMoe::run_heads(const GpuTable& table, const std::vector<Linear>& linears, int64_t m,
                       Heads x, Heads y) {
  const Linear& first = linears.front();
  const auto heads = static_cast<int32_t>(linears.size());
  const int64_t rows = m * heads;
  const cuda::HalfInputs inputs = gemm_.half_workspace(rows, first.k, first.input);
  context_.device.run(&Ops::to_half, {x.data, first.k, inputs, x.ld});
  cuda::ExpertWeights of{};
  of.like = table.like;
  of.ldy = y.ld;
  add_weight(&of, table, y.data);
  if (cuda::pair_by_pair(rows, heads))
    return context_.device.run(&Ops::moe_gemv, {of, nullptr, rows, 1, inputs, heads});
  context_.device.run(&Ops::moe_gemm,
                      {of, nullptr, heads, m, nullptr, inputs,
                       cuda::plan_experts(of.like, cuda::kMaxExpertTokens, context_.chip)});
}

void GpuMoe::add_weight(cuda::ExpertWeights* of, const GpuTable& table, float* to) {
  of->weights[of->count] = table.weights.data<cuda::TileWeight>();
  of->bias[of->count] = table.biases.data<float>();
  of->y[of->count++] = to;
}

}  // namespace pith
