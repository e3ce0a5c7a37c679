#include "core/dtype.h"

#include <gtest/gtest.h>

#include <cmath>

namespace pith {
namespace {

TEST(DType, every_f16_survives_the_round_trip) {
  for (uint32_t i = 0; i < 0x10000; ++i) {
    const auto h = static_cast<uint16_t>(i);
    const float f = f16_to_f32(h);
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(f))));
    } else {
      ASSERT_EQ(f32_to_f16(f), h) << i;
    }
  }
}

TEST(DType, f16_rounds_to_nearest_even) {
  EXPECT_EQ(f32_to_f16(1.0f + 0x1p-11f), 0x3c00);
  EXPECT_EQ(f32_to_f16(1.0f + 0x1.8p-10f), 0x3c02);
  EXPECT_EQ(f32_to_f16(65519.0f), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(f32_to_f16(0x1p-25f), 0);
  EXPECT_EQ(f32_to_f16(0x1.8p-25f), 1);
}

TEST(DType, bf16_rounds_to_nearest_even_and_keeps_nan) {
  EXPECT_EQ(f32_to_bf16(1.0f + 0x1p-8f), 0x3f80);
  EXPECT_EQ(f32_to_bf16(1.0f + 0x1.8p-7f), 0x3f82);
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::nanf("")))));
}

// The nearest code, found by trying all of them.
template <class Decode>
uint8_t nearest(float v, Decode decode) {
  int best = -1;
  for (int c = 0; c < 256; ++c) {
    const float d = decode(static_cast<uint8_t>(c));
    if (!std::isfinite(d) || std::signbit(d) != std::signbit(v)) continue;
    if (best < 0) best = c;
    const float now = std::fabs(decode(static_cast<uint8_t>(best)) - v), then = std::fabs(d - v);
    if (then < now || (then == now && c % 2 == 0)) best = c;
  }
  return static_cast<uint8_t>(best);
}

TEST(DType, fp8_encodes_to_the_nearest_code_and_saturates) {
  for (float v = -600.0f; v <= 600.0f; v += 0.37f) {
    EXPECT_EQ(f32_to_f8e4m3(v), nearest(v, f8e4m3_to_f32)) << v;
    EXPECT_EQ(f32_to_f8e5m2(v), nearest(v, f8e5m2_to_f32)) << v;
  }
  for (float v = 0x1p-12f; v < 0x1p-4f; v *= 1.013f) {
    EXPECT_EQ(f32_to_f8e4m3(v), nearest(v, f8e4m3_to_f32)) << v;
    EXPECT_EQ(f32_to_f8e5m2(-v), nearest(-v, f8e5m2_to_f32)) << v;
  }
  EXPECT_EQ(f8e4m3_to_f32(0x7e), 448.0f);
  EXPECT_EQ(f32_to_f8e4m3(1e9f), 0x7e);
  EXPECT_EQ(f32_to_f8e4m3(0.0f), 0);
  EXPECT_EQ(f32_to_f8e5m2(1e9f), 0x7b);
}

}  // namespace
}  // namespace pith
