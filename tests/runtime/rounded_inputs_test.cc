// Inputs rounded to int8 and fp8, against the definition in formats/encodings/input.h spelled out.

#include "runtime/cpu/rounded_inputs.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "core/parallel.h"
#include "core/rng.h"
#include "tests/support/encodings.h"

namespace pith {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

InputEncoding i8(InputScale scale, float value = 0) { return {DType::kI8, scale, value}; }
InputEncoding f8(InputScale scale, float value = 0) { return {DType::kF8E4M3, scale, value}; }

// Tokens of every size from subnormal to the largest, some of zeros.
std::vector<float> inputs(int64_t m, int64_t k) {
  auto x = test::uniform_values(m * k, static_cast<uint64_t>(m * 1000 + k));
  constexpr float kSizes[] = {1, 1e-3f, 0, 3e38f, 1e-36f, 1e-40f, 77, 1e30f};
  for (int64_t t = 0; t < m; ++t) {
    for (int64_t i = 0; i < k; ++i) x[static_cast<size_t>(t * k + i)] *= kSizes[t % 8];
  }
  return x;
}

// Checks one token, or 128 columns of it.
void expect_rounded(const InputEncoding& e, const float* x, int64_t n, float scale,
                    const int8_t* codes, const float* values) {
  const bool ints = e.dtype == DType::kI8;
  float top = 0;
  for (int64_t i = 0; i < n; ++i) top = std::max(top, std::fabs(x[i]));
  float s = e.scale == InputScale::kTensor ? e.value : top / (ints ? 127.0f : 448.0f);
  if (s < 0x1p-126f) s = 0;
  if (ints) {
    ASSERT_EQ(scale, s);
  }
  for (int64_t i = 0; i < n; ++i) {
    float code = 0;
    if (s > 0 && ints) code = std::clamp(std::nearbyint(x[i] / s), -127.0f, 127.0f);
    if (s > 0 && !ints) code = f8e4m3_to_f32(f32_to_f8e4m3(x[i] / s));
    if (ints) {
      ASSERT_EQ(static_cast<float>(codes[i]), code) << x[i] << " / " << s;
    }
    ASSERT_EQ(values[i], code * s) << x[i] << " / " << s;
  }
}

TEST(RoundedInputs, are_as_defined) {
  for (const InputEncoding& e :
       {i8(InputScale::kToken), i8(InputScale::kTensor, 0.004f), i8(InputScale::kBlock128),
        f8(InputScale::kToken), f8(InputScale::kTensor, 0.001f), f8(InputScale::kBlock128)}) {
    SCOPED_TRACE(to_string(e));
    RoundedInputs rounded;  // shapes follow each other in the same memory
    for (const int64_t m : {17, 1, 3}) {
      for (const int64_t k : {600, 1, 16, 63, 128, 130}) {
        const auto x = inputs(m, k);
        rounded.set(e, x.data(), m, k);
        const int8_t* codes = e.dtype == DType::kI8 ? rounded.codes() : nullptr;
        const float* values = rounded.values();
        const int64_t block = e.scale == InputScale::kBlock128 ? 128 : k;
        ASSERT_EQ(rounded.block(), block);
        for (int64_t t = 0; t < m; ++t) {
          for (int64_t c = 0; c < k; c += block) {
            expect_rounded(e, x.data() + t * k + c, std::min(block, k - c),
                           codes ? rounded.scales()[c / block * m + t] : 0,
                           codes ? codes + t * rounded.stride() + c : nullptr, values + t * k + c);
            if (testing::Test::HasFatalFailure()) return;
          }
          for (int64_t c = k; codes && c < rounded.stride(); ++c)
            ASSERT_EQ(codes[t * rounded.stride() + c], 0);
        }
      }
    }
  }
}

// Every code, every tie and its neighbours, what is below the smallest and beyond the largest; and
// numbers of all sizes.
TEST(RoundedInputs, fp8_codes_are_those_of_the_type) {
  std::vector<float> x;
  const auto with_neighbours = [&](float v) {
    for (const float sign : {1.0f, -1.0f}) {
      x.push_back(sign * v);
      x.push_back(sign * std::nextafter(v, kInf));
      x.push_back(sign * std::nextafter(v, -kInf));
    }
  };
  for (uint8_t code = 0; code < 0x7e; ++code) {
    const float v = f8e4m3_to_f32(code), next = f8e4m3_to_f32(static_cast<uint8_t>(code + 1));
    with_neighbours(v);
    with_neighbours((v + next) / 2);
  }
  for (const float v : {448.0f, 464.0f, 480.0f, 1e10f, 3e38f, 1e-30f, 1e-40f}) with_neighbours(v);
  Rng rng(1);
  while (x.size() < 200000) {
    const auto v = std::bit_cast<float>(static_cast<uint32_t>(rng.next()));
    if (std::isfinite(v)) x.push_back(v);
  }
  RoundedInputs rounded;
  rounded.set(f8(InputScale::kTensor, 1), x.data(), 1, static_cast<int64_t>(x.size()));
  const float* values = rounded.values();
  for (size_t i = 0; i < x.size(); ++i)
    ASSERT_EQ(values[i], f8e4m3_to_f32(f32_to_f8e4m3(x[i]))) << x[i];
}

TEST(RoundedInputs, a_token_with_an_input_that_is_not_finite_is_nan) {
  for (const float bad : {kNan, kInf, -kInf}) {
    for (const InputEncoding& e :
         {i8(InputScale::kToken), i8(InputScale::kTensor, 1), i8(InputScale::kBlock128),
          f8(InputScale::kToken), f8(InputScale::kTensor, 1), f8(InputScale::kBlock128)}) {
      const int64_t m = 3, k = 300;
      auto x = test::uniform_values(m * k, 1);
      x[k + 200] = bad;  // of the middle one, in its second block
      RoundedInputs rounded;
      rounded.set(e, x.data(), m, k);
      const float* values = rounded.values();
      const bool blocks = e.scale == InputScale::kBlock128;
      for (int64_t i = 0; i < m * k; ++i) {
        const bool touched = i / k == 1 && (!blocks || i % k / 128 == 1);
        ASSERT_EQ(std::isnan(values[i]), touched) << to_string(e) << " " << i;
        if (e.dtype == DType::kI8 && touched) {
          ASSERT_EQ(rounded.codes()[i / k * rounded.stride() + i % k], 0);
        }
      }
      if (e.dtype != DType::kI8) continue;
      for (int64_t t = 0; t < m; ++t)
        ASSERT_EQ(std::isnan(rounded.scales()[(blocks ? m : 0) + t]), t == 1);
    }
  }
}

}  // namespace
}  // namespace pith
