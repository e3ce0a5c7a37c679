// Mixtures of experts, and linears by head, on the processor: all at once gives the bits of one
// after the other.

#include <gtest/gtest.h>

#include "core/parallel.h"
#include "runtime/cpu/cpu_executor.h"
#include "runtime/forward/forwarding_executor.h"
#include "tests/support/encodings.h"

namespace pith {
namespace {

Linear linear(const std::string& name, const Encoding& e, int64_t n, int64_t k, uint64_t seed,
              const InputEncoding& input) {
  Linear l{.name = name, .n = n, .k = k, .terms = {}, .bias = {}, .input = input};
  l.terms.push_back({encode(e, n, k, test::weight_values(n, k, seed).data()), {}});
  return l;
}

// What a mixture adds to y of zeros.
std::vector<float> run(Executor& e, const proto::Moe& spec, const MoeWeights& weights,
                       const std::vector<float>& x, int64_t m) {
  const int64_t hidden = std::ssize(x) / m;
  const Tensor from = e.buffer(TensorId::kNormed, m, hidden),
               to = e.buffer(TensorId::kHidden, m, hidden);
  e.write(x, from);
  std::vector<float> y(x.size());
  e.write(y, to);
  e.run(MoeOp{&spec, &weights, from, to});
  e.read(to, y);
  return y;
}

TEST(CpuMixture, gives_the_bits_of_one_expert_after_the_other) {
  const int64_t hidden = 160, width = 112;
  const InputEncoding none{}, i8{DType::kI8, InputScale::kToken, 0};
  const struct {
    const char* encoding;
    InputEncoding input;
    bool gated;
  } kCases[] = {{"int4-g32-asym", none, true}, {"int4-g32", none, false}, {"int8-row", i8, true},
                {"int4-g64-s8", i8, true},     {"int3-g16", none, true},  {"nf4-g32", none, true},
                {"mxfp4", none, true}};
  for (const auto& c : kCases) {
    proto::Moe spec;
    spec.set_experts(5);
    spec.set_chosen(2);
    spec.set_normalized(true);
    spec.mutable_expert()->set_width(static_cast<uint64_t>(width));
    spec.mutable_expert()->set_gated(c.gated);
    spec.mutable_expert()->set_activation(proto::ACTIVATION_SILU);
    const Encoding e = parse_encoding(c.encoding);
    MoeWeights weights;
    weights.router = linear("router", Encoding::dense(DType::kF32), 5, hidden, 1, none);
    for (uint64_t i = 0; i < 5; ++i) {
      auto& w = weights.experts.emplace_back();
      if (c.gated) w.gate = linear("gate", e, width, hidden, 10 * i + 2, c.input);
      w.up = linear("up", e, width, hidden, 10 * i + 3, c.input);
      w.down = linear("down", e, hidden, width, 10 * i + 4, c.input);
    }
    for (const int64_t m : {1, 2, 9, 190, 700}) {
      const auto x = test::uniform_values(m * hidden, static_cast<uint64_t>(m));
      const auto together = make_cpu_executor(CpuInputs::kInt8),
                 inner = make_cpu_executor(CpuInputs::kInt8);
      ForwardingExecutor apart(*inner);  // which knows but the steps
      const auto expected = run(apart, spec, weights, x, m);
      for (const int threads : {1, 3}) {
        set_threads(threads);
        EXPECT_EQ(run(*together, spec, weights, x, m), expected) << c.encoding << " " << m;
      }
      set_threads(0);
    }
  }
}

TEST(CpuByHead, gives_the_bits_of_one_head_after_the_other) {
  const int64_t heads = 3, k = 96, n = 48, of_x = 100, of_y = 60;
  const InputEncoding none{}, i8{DType::kI8, InputScale::kToken, 0};
  for (const auto& [name, input] :
       {std::pair("int4-g32-asym", none), {"int8-row", i8}, {"int6-g16", none}, {"bf16", none}}) {
    std::vector<Linear> linears;
    for (uint64_t h = 0; h < heads; ++h)
      linears.push_back(linear("head", parse_encoding(name), n, k, h + 1, input));
    linears[1].bias = test::uniform_values(n, 5);
    for (const int64_t m : {1, 2, 70}) {
      const auto x = test::uniform_values(m * heads * of_x, 3);
      const auto run = [&](Executor& e) {
        const Tensor from = e.buffer(TensorId::kQuery, m, heads * of_x),
                     to = e.buffer(TensorId::kAttentionOutput, m, heads * of_y);
        std::vector<float> y(static_cast<size_t>(m * heads * of_y), 7);
        e.write(x, from);
        e.write(y, to);
        e.run(HeadLinearsOp{linears, from, 4, to, 12});
        e.read(to, y);
        return y;
      };
      const auto together = make_cpu_executor(CpuInputs::kInt8),
                 inner = make_cpu_executor(CpuInputs::kInt8);
      ForwardingExecutor apart(*inner);
      const auto expected = run(apart);
      EXPECT_EQ(expected[11], 7);
      EXPECT_NE(expected[12], 7);
      for (const int threads : {1, 3}) {
        set_threads(threads);
        EXPECT_EQ(run(*together), expected) << name << " " << m;
      }
      set_threads(0);
    }
  }
}

}  // namespace
}  // namespace pith
