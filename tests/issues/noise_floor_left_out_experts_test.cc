// An executor that rounds every result to bf16 left out what the experts of an MoE layer added up,
// and so the noise floor of a mixture was too low.

#include <gtest/gtest.h>

#include "runtime/cpu/cpu_executor.h"
#include "runtime/eval/bf16_executor.h"
#include "runtime/forward/forward.h"
#include "tests/support/tiny_runtime.h"

namespace pith {
namespace {

TEST(NoiseFloor, rounds_the_sum_over_experts) {
  const Model model = test::TinyRuntime("mixtral").model();
  const auto inner = make_cpu_executor();
  Bf16Executor rounding(*inner);
  const auto cache = inner->make_cache(model.spec, {1, 9, NumberFormat::kF32});
  const auto tokens = test::random_tokens(9, static_cast<int32_t>(model.spec.vocab()), 1);
  const Segment segment{0, 0, 9};
  const Tensor x = forward_hidden(rounding, model, {tokens, std::span(&segment, 1)}, *cache);
  std::vector<float> values(static_cast<size_t>(x.m * x.n));
  inner->read(x, values);
  for (const float v : values) ASSERT_EQ(v, bf16_to_f32(f32_to_bf16(v)));
}

}  // namespace
}  // namespace pith
