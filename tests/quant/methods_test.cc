// Quantization methods on matrices: what they may lose, for every encoding they know.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/rng.h"
#include "quant/method.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

std::vector<Encoding> int_encodings() {
  std::vector<Encoding> out;
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const int64_t group : {0, 16, 32, 64, 128}) {
      for (const bool symmetric : {true, false}) {
        for (const DType scale : {DType::kF16, DType::kBF16}) {
          for (const bool two_level : {false, true})
            out.push_back(Encoding::integer(bits, group, symmetric, scale, two_level));
        }
      }
    }
  }
  return out;
}

std::vector<Encoding> searched_encodings() {
  auto out = int_encodings();
  for (const int64_t group : {0, 16, 32, 64, 128}) {
    for (const DType scale : {DType::kF16, DType::kBF16})
      out.push_back(Encoding::nf4(group, scale));
  }
  return out;
}

std::vector<float> normal_matrix(int64_t n, int64_t k, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> w(static_cast<size_t>(n * k));
  for (float& x : w) {
    const double radius = std::sqrt(-2 * std::log(1 - rng.uniform()));
    x = static_cast<float>(0.02 * radius * std::cos(2 * 3.14159265358979 * rng.uniform()));
  }
  return w;
}

// The same, every 50th weight or so 10 to 30 times as large.
std::vector<float> heavy_matrix(int64_t n, int64_t k, uint64_t seed) {
  auto w = normal_matrix(n, k, seed);
  Rng rng(seed + 1);
  for (float& x : w) {
    if (rng.uniform() < 0.02) x *= static_cast<float>(10 + 20 * rng.uniform());
  }
  return w;
}

OwnedWeight encoded(const char* method, const Encoding& e, int64_t n, int64_t k,
                    const std::vector<float>& w, const float* channel_weight = nullptr) {
  OwnedWeight out = allocate_weight(e, n, k);
  parse_method(method).rounding->encode(
      {e, n, k, 0, n, w.data(), channel_weight, 0, out.planes, nullptr});
  return out;
}

std::vector<float> decoded(const Weight& w) {
  std::vector<float> out(static_cast<size_t>(w.n * w.k));
  reference_decode(w, 0, w.n, out.data());
  return out;
}

double squared_error(const std::vector<float>& w, const Weight& to) {
  const auto d = decoded(to);
  double sum = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    const double e = static_cast<double>(w[i]) - static_cast<double>(d[i]);
    sum += e * e;
  }
  return sum;
}

void expect_same_planes(const Weight& a, const Weight& b, const Encoding& e) {
  ASSERT_EQ(a.planes.size(), b.planes.size());
  for (size_t p = 0; p < a.planes.size(); ++p)
    EXPECT_TRUE(std::ranges::equal(a.planes[p].bytes, b.planes[p].bytes))
        << to_string(e) << ", " << plane_name(a.planes[p].kind);
}

TEST(Methods, minmax_gives_the_bytes_of_the_reference_encoder) {
  for (const int64_t k : {1, 15, 64, 112, 200}) {
    const auto w = heavy_matrix(5, k, 7);
    for (const auto& e : searched_encodings())
      expect_same_planes(encoded("minmax", e, 5, k, w).weight, encode(e, 5, k, w.data()), e);
  }
}

TEST(Methods, rtn_loses_no_more_than_minmax) {
  const int64_t n = 24, k = 300;  // the last group of a row is shorter
  for (const auto& e : searched_encodings()) {
    for (const auto& w : {normal_matrix(n, k, 1), heavy_matrix(n, k, 2)}) {
      const double rtn = squared_error(w, encoded("rtn", e, n, k, w).weight);
      const double minmax = squared_error(w, encoded("minmax", e, n, k, w).weight);
      EXPECT_LE(rtn, minmax) << to_string(e);
    }
  }
}

// Values that two-level scales cannot hold exactly are the exception: there the row's scale rounds.
TEST(Methods, weights_times_a_power_of_two_give_the_same_codes) {
  const int64_t n = 4, k = 200;
  const auto w = heavy_matrix(n, k, 3);
  for (const auto& e : searched_encodings()) {
    if (e.scale != DType::kBF16) continue;
    for (const char* method : {"minmax", "rtn"}) {
      const auto at_one = decoded(encoded(method, e, n, k, w).weight);
      for (const int exponent : {-90, -40, 40, 120}) {
        auto scaled = w;
        for (float& x : scaled) x = std::ldexp(x, exponent);
        auto d = decoded(encoded(method, e, n, k, scaled).weight);
        for (float& x : d) x = std::ldexp(x, -exponent);
        EXPECT_EQ(d, at_one) << method << " " << to_string(e) << " times 2^" << exponent;
      }
    }
  }
}

TEST(Methods, rows_are_encoded_alike_alone_and_together) {
  const int64_t n = 9, k = 112;
  const auto w = heavy_matrix(n, k, 4);
  for (const auto& e : searched_encodings()) {
    for (const auto& m : methods()) {
      OwnedWeight pieces = allocate_weight(e, n, k);
      for (int64_t row = 0; row < n; ++row)
        m.encode({e, n, k, row, 1, w.data() + row * k, nullptr, 0, pieces.planes, nullptr});
      expect_same_planes(pieces.weight, encoded(m.name, e, n, k, w).weight, e);
    }
  }
}

TEST(Methods, channel_weights_shift_the_error_to_channels_that_matter_less) {
  const int64_t n = 32, k = 128;
  const auto w = normal_matrix(n, k, 5);
  std::vector<float> importance(static_cast<size_t>(k), 0.01f);
  for (size_t c = 0; c < importance.size(); c += 8) importance[c] = 4;
  const auto weighted_error = [&](const Weight& to) {
    const auto d = decoded(to);
    double sum = 0;
    for (size_t i = 0; i < w.size(); ++i) {
      const double e = static_cast<double>(w[i]) - static_cast<double>(d[i]);
      sum += static_cast<double>(importance[i % static_cast<size_t>(k)]) * e * e;
    }
    return sum;
  };
  for (const auto& e :
       {Encoding::integer(4, 32), Encoding::integer(3, 64, false), Encoding::nf4(64)}) {
    const double blind = weighted_error(encoded("rtn", e, n, k, w).weight);
    const double weighted = weighted_error(encoded("rtn", e, n, k, w, importance.data()).weight);
    EXPECT_LT(weighted, 0.9 * blind) << to_string(e);
  }
}

TEST(Methods, groups_of_zeros_decode_to_exact_zeros) {
  const int64_t n = 3, k = 150;
  auto w = normal_matrix(n, k, 6);
  for (int64_t i = 16; i < 144; ++i) w[static_cast<size_t>(k + i)] = 0;   // groups of row 1
  for (int64_t i = 0; i < k; ++i) w[static_cast<size_t>(2 * k + i)] = 0;  // all of row 2
  for (const auto& e : searched_encodings()) {
    if (e.group == 0 || e.group == 128) continue;
    for (const auto& m : methods()) {
      const auto d = decoded(encoded(m.name, e, n, k, w).weight);
      const int64_t first = e.group == 64   ? 64
                            : e.group == 32 ? 32
                                            : 16,
                    last = e.group == 64 ? 128 : 144;
      for (int64_t i = first; i < last / e.group * e.group; ++i)
        ASSERT_EQ(d[static_cast<size_t>(k + i)], 0) << m.name << " " << to_string(e);
      for (int64_t i = 0; i < k; ++i)
        ASSERT_EQ(d[static_cast<size_t>(2 * k + i)], 0) << m.name << " " << to_string(e);
    }
  }
}

// All of a row one number: zero points make that a full step, symmetric grids come close.
TEST(Methods, a_constant_row_stays_constant) {
  const int64_t n = 2, k = 100;
  std::vector<float> w(static_cast<size_t>(n * k), 0.37f);
  std::fill(w.begin() + k, w.end(), -0.021f);
  for (const auto& e : searched_encodings()) {
    if (e.two_level) continue;  // the shorter last group shares a row's scale
    for (const auto& m : methods()) {
      const auto d = decoded(encoded(m.name, e, n, k, w).weight);
      // Half a step of the symmetric grid, and the rounding of its scale.
      const float step = 0.006f + 1 / static_cast<float>((1 << e.bits) - 1);
      for (size_t i = 0; i < d.size(); ++i) {
        const size_t row = i / static_cast<size_t>(k) * static_cast<size_t>(k);
        const size_t group = e.group == 0 ? static_cast<size_t>(k) : static_cast<size_t>(e.group);
        ASSERT_EQ(d[i], d[row + (i - row) / group * group]) << m.name << " " << to_string(e);
        ASSERT_NEAR(d[i], w[i], step * std::fabs(w[i])) << m.name << " " << to_string(e);
      }
    }
  }
}

// Where the inverse of a scale would leave f32, the group is one of zeros.
TEST(Methods, scales_below_the_normal_range_become_zeros) {
  const int64_t n = 1, k = 64;
  for (const float magnitude : {1e-45f, 1e-40f, 3e-39f, 1.1e-38f}) {
    std::vector<float> w(static_cast<size_t>(n * k));
    for (size_t i = 0; i < w.size(); ++i)
      w[i] = i % 3 == 0 ? 0 : i % 2 == 0 ? magnitude : -magnitude;
    for (const auto& e : searched_encodings()) {
      for (const auto& m : methods()) {
        const auto d = decoded(encoded(m.name, e, n, k, w).weight);
        if (e.kind == EncodingKind::kNf4 || e.bits == 2) {  // their scale is nearly the weight
          for (const float x : d) ASSERT_LE(std::fabs(x), 2.1f * magnitude);
          continue;
        }
        for (const float x : d)
          ASSERT_EQ(x, 0) << m.name << " " << to_string(e) << " " << magnitude;
      }
    }
  }
}

TEST(Methods, a_scale_beyond_f16_is_an_error_that_names_the_row) {
  const int64_t n = 4, k = 64;
  auto w = normal_matrix(n, k, 8);
  w[static_cast<size_t>(2 * k + 5)] = 3e7f;
  for (const auto& encoding : searched_encodings()) {
    for (const auto& m : methods()) {
      if (encoding.scale == DType::kBF16) {
        const auto d = decoded(encoded(m.name, encoding, n, k, w).weight);
        EXPECT_NEAR(static_cast<double>(d[static_cast<size_t>(2 * k + 5)]), 3e7, 1.1e7)
            << m.name << " " << to_string(encoding);
      } else if (!encoding.two_level || encoding.bits <= 2) {  // two levels reach 127 times as far
        EXPECT_PITH_ERROR(encoded(m.name, encoding, n, k, w), ErrorKind::kNumeric,
                          "row 2: a scale of");
      }
    }
  }
}

TEST(Methods, an_unknown_method_is_a_usage_error_that_lists_them) {
  EXPECT_PITH_ERROR(parse_method("magic"), ErrorKind::kUsage, "minmax, rtn");
  EXPECT_PITH_ERROR(parse_method("awq+magic"), ErrorKind::kUsage, "unknown method");
  EXPECT_PITH_ERROR(parse_method("rtn+gptq"), ErrorKind::kUsage, "rtn is not a scaling");
}

TEST(Methods, names_are_parsed_and_written_alike) {
  for (const char* name : {"minmax", "rtn", "gptq", "awq", "smoothquant", "awq+gptq"})
    EXPECT_EQ(parse_method(name).name(), name);
  EXPECT_EQ(parse_method("awq+rtn").name(), "awq");
  EXPECT_EQ(MethodChoice{}.name(), "rtn");
}

}  // namespace
}  // namespace pith
