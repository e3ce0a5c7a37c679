#include "runtime/model/synthetic.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/encodings.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

TEST(Synthetic, weights_are_finite_and_of_variance_one_over_k_in_every_encoding) {
  for (const Encoding& e : test::encoding_families()) {
    const auto source =
        make_synthetic("smollm2-135m", {e, Encoding::integer(8, 64), InputEncoding{}});
    for (const auto& info : linears_of(source->spec())) {
      if (info.name != "layers.3.attention.q") continue;
      const Linear l = source->linear(info);
      ASSERT_EQ(to_string(l.terms[0].w.encoding), to_string(e));
      std::vector<float> w(static_cast<size_t>(l.n * l.k));
      reference_decode(l, 0, l.n, w.data());
      double squares = 0;
      for (const float v : w) {
        ASSERT_TRUE(std::isfinite(v)) << to_string(e);
        squares += static_cast<double>(v) * static_cast<double>(v);
      }
      // Two bits leave little.
      EXPECT_NEAR(squares / static_cast<double>(l.n), 1, 0.3) << to_string(e);
    }
  }
}

TEST(Synthetic, shapes_have_the_parameters_of_their_names) {
  const SyntheticTypes w4{Encoding::integer(4, 64), Encoding::integer(8, 64), InputEncoding{}};
  const std::pair<const char*, double> kExpected[] = {
      {"smollm2-135m", 134.5e6}, {"llama-850m", 852.6e6},      {"llama-1b", 1235.8e6},
      {"llama-8b", 8030.3e6},    {"qwen3-30b-a3b", 30532.1e6}, {"deepseek-v2-lite", 15706.5e6}};
  for (const auto& [name, parameters] : kExpected) {
    const auto source = make_synthetic(name, w4);
    EXPECT_NEAR(static_cast<double>(parameter_count(source->spec())), parameters, 1e5) << name;
    EXPECT_GT(source->tensor_bytes(), parameter_count(source->spec()) / 2);
  }
  EXPECT_EQ(synthetic_shapes().size(), std::size(kExpected));
}

TEST(Synthetic, an_unknown_shape_is_refused_with_those_that_exist) {
  EXPECT_PITH_ERROR(make_synthetic("llama-3b", {}), ErrorKind::kUsage, "llama-1b");
}

}  // namespace
}  // namespace pith
