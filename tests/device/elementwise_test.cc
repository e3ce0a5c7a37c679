// The small kernels against their definitions in f64, or what the CPU does.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "core/dtype.h"
#include "formats/encodings/encoding.h"
#include "runtime/cpu/kv_cache.h"
#include "runtime/cpu/rounded_inputs.h"
#include "runtime/cuda/gpu_weight.h"
#include "runtime/cuda_kernels/ops_table.h"
#include "runtime/forward/sampling.h"
#include "tests/support/encodings.h"

namespace pith {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

class GpuKernels : public testing::Test {
 protected:
  GpuBuffer floats(const std::vector<float>& x) { return {device_, x.data(), x.size() * 4}; }
  std::vector<float> read(const GpuBuffer& b) {
    std::vector<float> to(b.bytes() / 4);
    device_.download(to.data(), b.data(), b.bytes());
    return to;
  }
  struct F16Math {
    GpuBuffer values, scales;
    cuda::HalfInputs of;
  };
  F16Math halves(int64_t m, int64_t stride) {
    const std::vector<uint16_t> nan(static_cast<size_t>(m * stride), 0x7e00);
    F16Math h{{device_, nan.data(), nan.size() * 2}, {device_, static_cast<uint64_t>(m * 4)}, {}};
    h.of = {h.values.data<uint16_t>(), stride, h.scales.data<float>(), m};
    return h;
  }
  // Within half a unit of the last of 11 bits of the largest; scales are powers of two; 0 behind n.
  void expect_halves(const F16Math& h, const std::vector<double>& expected, int64_t n) {
    std::vector<uint16_t> values(h.values.bytes() / 2);
    device_.download(values.data(), h.values.data(), h.values.bytes());
    const auto scales = read(h.scales);
    for (int64_t t = 0; t < h.of.m; ++t) {
      double top = 0;
      for (int64_t i = 0; i < n; ++i)
        top = std::max(top, std::fabs(expected[static_cast<size_t>(t * n + i)]));
      const auto s = static_cast<double>(scales[static_cast<size_t>(t)]);
      int exponent;
      EXPECT_EQ(std::frexp(s, &exponent), 0.5);
      for (int64_t i = 0; i < h.of.stride; ++i) {
        const auto v =
            static_cast<double>(f16_to_f32(values[static_cast<size_t>(t * h.of.stride + i)])) * s;
        const double want = i < n ? expected[static_cast<size_t>(t * n + i)] : 0;
        ASSERT_NEAR(v, want, std::fabs(want) * 0x1p-11 * 1.01 + top * 0x1p-38) << t << " " << i;
      }
    }
  }

  GpuDevice device_{cuda::ops_table()};
};

TEST_F(GpuKernels, inputs_of_any_size_keep_eleven_bits) {
  const int64_t m = 6, n = 150;
  auto x = test::uniform_values(m * n, 1);
  constexpr float kSizes[] = {1, 3e38f, 1e-30f, 0, 65000, 1e-6f};
  std::vector<double> expected;
  for (int64_t i = 0; i < m * n; ++i) {
    x[static_cast<size_t>(i)] *= kSizes[i / n];
    expected.push_back(static_cast<double>(x[static_cast<size_t>(i)]));
  }
  const F16Math to = halves(m, 256);
  const GpuBuffer from = floats(x);
  device_.run(&cuda::Ops::to_half, {from.data<float>(), n, to.of});
  expect_halves(to, expected, n);
}

// Widths of which a thread keeps one, two, four, eight fours, or none.
constexpr int64_t kWidths[] = {300, 301, 4100, 8200, 16001, 20000, 40000};

TEST_F(GpuKernels, a_norm_is_divided_by_the_root_of_its_mean_square) {
  for (const int64_t n : kWidths) {
    const int64_t m = 2;
    const auto x = test::uniform_values(m * n, 1), weight = test::uniform_values(n, 2);
    std::vector<double> expected;
    for (int64_t t = 0; t < m; ++t) {
      double squares = 0;
      for (int64_t i = 0; i < n; ++i)
        squares += std::pow(static_cast<double>(x[static_cast<size_t>(t * n + i)]), 2);
      for (int64_t i = 0; i < n; ++i) {
        expected.push_back(static_cast<double>(x[static_cast<size_t>(t * n + i)]) /
                           std::sqrt(squares / static_cast<double>(n) + 1e-5) *
                           static_cast<double>(weight[static_cast<size_t>(i)]));
      }
    }
    const GpuBuffer from = floats(x), w = floats(weight), y(device_, x.size() * 4);
    const F16Math to = halves(m, (n + 127) / 128 * 128);
    device_.run(&cuda::Ops::norm_to_half, {from.data<float>(), w.data<float>(), n, 1e-5f, to.of});
    expect_halves(to, expected, n);
    device_.run(&cuda::Ops::norm,
                {from.data<float>(), w.data<float>(), m, n, 1e-5f, y.data<float>(), false});
    const auto plain = read(y);
    for (size_t i = 0; i < plain.size(); ++i) ASSERT_NEAR(plain[i], expected[i], 1e-6) << n;
    device_.run(&cuda::Ops::norm,
                {from.data<float>(), w.data<float>(), m, n, 1e-5f, y.data<float>(), true});
    const auto twice = read(y);
    for (size_t i = 0; i < twice.size(); ++i) ASSERT_NEAR(twice[i], 2 * expected[i], 2e-6) << n;
  }
}

TEST_F(GpuKernels, rows_of_any_width_become_inputs) {
  for (const int64_t n : kWidths) {
    const auto x = test::uniform_values(2 * n, 1), up = test::uniform_values(2 * n, 2);
    std::vector<double> plain, activated;
    for (size_t i = 0; i < x.size(); ++i) {
      const auto g = static_cast<double>(x[i]);
      plain.push_back(g);
      activated.push_back(g / (1 + std::exp(-g)) * static_cast<double>(up[i]));
    }
    const GpuBuffer gate = floats(x), times = floats(up);
    const F16Math to = halves(2, (n + 127) / 128 * 128), after = halves(2, to.of.stride);
    device_.run(&cuda::Ops::to_half, {gate.data<float>(), n, to.of});
    expect_halves(to, plain, n);
    device_.run(&cuda::Ops::activate_to_half,
                {cuda::Activate::kSilu, gate.data<float>(), times.data<float>(), n, after.of});
    expect_halves(after, activated, n);
    const auto kept = read(gate);
    for (size_t i = 0; i < kept.size(); ++i) ASSERT_NEAR(kept[i], activated[i], 1e-6) << n;
  }
}

TEST_F(GpuKernels, caps_bend_what_comes_near_them) {
  std::vector<float> x = test::uniform_values(700, 4, 80);
  x.insert(x.end(), {0, -0.0f, 1e-30f, 3e38f, -3e38f, INFINITY, -INFINITY, NAN});
  const GpuBuffer on = floats(x);
  device_.run(&cuda::Ops::cap, {on.data<float>(), 4, 177, 30.0f});
  const auto got = read(on);
  EXPECT_TRUE(std::isnan(got.back()));
  for (size_t i = 0; i + 1 < x.size(); ++i)
    ASSERT_NEAR(got[i], 30 * std::tanh(static_cast<double>(x[i]) / 30), 6e-6) << x[i];
}

TEST_F(GpuKernels, activations_are_what_they_are_called) {
  const int64_t n = 200;
  std::vector<float> gate, up;
  for (int64_t i = 0; i < n; ++i) gate.push_back(static_cast<float>(i - 100) * 0.21f);
  up = test::uniform_values(n, 3, 9);
  for (const auto how : {cuda::Activate::kNone, cuda::Activate::kSilu, cuda::Activate::kGeluTanh,
                         cuda::Activate::kGelu, cuda::Activate::kClamped}) {
    for (const bool gated : {false, true}) {
      std::vector<double> expected;
      for (size_t i = 0; i < gate.size(); ++i) {
        const auto g = static_cast<double>(gate[i]);
        double v = g;
        if (how == cuda::Activate::kSilu) v = g / (1 + std::exp(-g));
        if (how == cuda::Activate::kGelu) v = g * 0.5 * (1 + std::erf(g / std::sqrt(2.0)));
        if (how == cuda::Activate::kGeluTanh)
          v = g * 0.5 * (1 + std::tanh(std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g)));
        if (how == cuda::Activate::kClamped)
          v = std::min(g, 7.0) / (1 + std::exp(-1.702 * std::min(g, 7.0)));
        auto u = static_cast<double>(up[i]);
        if (how == cuda::Activate::kClamped) u = std::clamp(u, -7.0, 7.0) + 1;
        expected.push_back(gated ? v * u : v);
      }
      const GpuBuffer g = floats(gate), u = floats(up);
      const F16Math to = halves(1, 256);
      device_.run(&cuda::Ops::activate_to_half,
                  {how, g.data<float>(), gated ? u.data<float>() : nullptr, n, to.of});
      const auto kept = read(g);
      for (size_t i = 0; i < expected.size(); ++i)
        ASSERT_NEAR(kept[i], expected[i],
                    4e-7 * (1 + std::fabs(static_cast<double>(gate[i]))) *
                        (gated ? 1 + std::fabs(static_cast<double>(up[i])) : 1))
            << i;
      expect_halves(to, std::vector<double>(kept.begin(), kept.end()), n);
    }
  }
}

TEST_F(GpuKernels, what_is_not_finite_is_said_in_the_scale) {
  for (const float bad : {kInf, -kInf, std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> x(100, 1.0f);
    x[37] = bad;
    const GpuBuffer from = floats(x);
    const F16Math to = halves(1, 128);
    device_.run(&cuda::Ops::to_half, {from.data<float>(), 100, to.of});
    EXPECT_TRUE(std::isnan(read(to.scales)[0]));
  }
}

TEST_F(GpuKernels, rounded_inputs_are_those_of_the_cpu) {
  const int64_t m = 5, n = 300;
  auto x = test::uniform_values(m * n, 4);
  for (int64_t i = 0; i < n; ++i) {
    x[static_cast<size_t>(n + i)] *= 1e-40f;
    x[static_cast<size_t>(2 * n + i)] = 0;
    x[static_cast<size_t>(3 * n + i)] *= 1e30f;
  }
  x[static_cast<size_t>(4 * n + 7)] = kInf;
  for (const DType type : {DType::kI8, DType::kF8E4M3}) {
    for (const auto scale : {InputScale::kToken, InputScale::kTensor, InputScale::kBlock128}) {
      const InputEncoding e{type, scale, scale == InputScale::kTensor ? 0.004f : 0};
      RoundedInputs rounded;
      rounded.set(e, x.data(), m, n);
      const float* const expected = rounded.values();
      const GpuBuffer from = floats(x), y(device_, x.size() * 4);
      std::vector<float> got;
      if (scale == InputScale::kBlock128) {
        device_.run(&cuda::Ops::round_inputs,
                    {from.data<float>(), m, n, type != DType::kI8, y.data<float>()});
        got = read(y);
      } else {
        F16Math to = halves(m, 384);
        to.of.round = type == DType::kI8 ? NumberFormat::kInt8 : NumberFormat::kE4M3;
        to.of.fixed = e.value;
        device_.run(&cuda::Ops::to_half, {from.data<float>(), n, to.of});
        std::vector<uint16_t> codes(static_cast<size_t>(m * 384));
        device_.download(codes.data(), to.of.values, codes.size() * 2);
        const auto scales = read(to.scales);
        for (int64_t i = 0; i < m * n; ++i)
          got.push_back(f16_to_f32(codes[static_cast<size_t>(i / n * 384 + i % n)]) *
                        scales[static_cast<size_t>(i / n)]);
      }
      for (size_t i = 0; i < got.size(); ++i) {
        if (std::isnan(expected[i]))
          ASSERT_TRUE(std::isnan(got[i])) << to_string(e) << " " << i;
        else
          ASSERT_EQ(got[i], expected[i]) << to_string(e) << " " << i;
      }
    }
  }
}

TEST_F(GpuKernels, appends_heads_turned_by_position_and_rotated_as_the_cpu_does) {
  const int64_t m = 3, heads = 5, kv_heads = 2;
  const std::vector<int32_t> pages = {1, 0}, slots(3), at = {15, 16, 3};
  const GpuBuffer of_pages(device_, pages.data(), 8), of_slots(device_, slots.data(), 12),
      of_at(device_, at.data(), 12);
  for (const int64_t d : {4, 64, 80, 96, 7}) {
    for (const auto& [half, interleaved, rotates] :
         {std::tuple<int64_t, bool, bool>{0, false, false},
          {d / 2, false, false},
          {d / 4, true, true},
          {0, false, true}}) {
      auto q = test::uniform_values(m * heads * d, 4),
           k = test::uniform_values(m * kv_heads * d, 5);
      const auto v = test::uniform_values(m * kv_heads * d, 6),
                 cosines = test::uniform_values(m * half, 7),
                 sines = test::uniform_values(m * half, 8);
      const GpuBuffer of_q = floats(q), of_k = floats(k), of_v = floats(v),
                      of_cosines = floats(cosines), of_sines = floats(sines);
      const auto bytes = static_cast<uint64_t>(2 * kv_heads * cuda::kPageTokens * d * 4);
      const GpuBuffer keys(device_, bytes), values(device_, bytes);
      const cuda::Cache cache{{NumberFormat::kF32, keys.data(), nullptr},
                              {NumberFormat::kF32, values.data(), nullptr},
                              of_pages.data<int32_t>(),
                              2,
                              kv_heads,
                              d};
      device_.run(&cuda::Ops::write_kv, {cache,
                                         {of_slots.data<int32_t>(), of_at.data<int32_t>(), m},
                                         of_q.data<float>(),
                                         heads,
                                         of_k.data<float>(),
                                         of_v.data<float>(),
                                         of_cosines.data<float>(),
                                         of_sines.data<float>(),
                                         half,
                                         interleaved,
                                         rotates});
      const auto turned = [&](std::vector<float>& x, int64_t of_token) {
        for (int64_t r = 0; r < m * of_token; ++r) {
          float* const head = x.data() + r * d;
          for (int64_t i = 0; i < half; ++i) {
            const auto angle = static_cast<size_t>(r / of_token * half + i);
            float& a = head[interleaved ? 2 * i : i];
            float& b = head[interleaved ? 2 * i + 1 : i + half];
            const float first = a, second = b;
            a = first * cosines[angle] - second * sines[angle];
            b = second * cosines[angle] + first * sines[angle];
          }
          if (rotates) rotate_head(head, d);
        }
      };
      turned(q, heads);
      turned(k, kv_heads);
      EXPECT_EQ(read(of_q), q);
      const auto got_keys = read(keys), got_values = read(values);
      for (int64_t t = 0; t < m; ++t) {
        for (int64_t h = 0; h < kv_heads; ++h) {
          const int64_t p = at[static_cast<size_t>(t)],
                        row = (pages[static_cast<size_t>(p / 16)] * kv_heads + h) * 16 + p % 16;
          for (int64_t i = 0; i < d; ++i) {
            const auto from = static_cast<size_t>((t * kv_heads + h) * d + i),
                       to = static_cast<size_t>(row * d + i);
            ASSERT_EQ(got_keys[to], k[from]) << d << " " << t << " " << h << " " << i;
            ASSERT_EQ(got_values[to], v[from]);
          }
        }
      }
    }
  }
}

TEST_F(GpuKernels, rows_of_the_embedding_are_those_of_the_reference_decoder) {
  auto encodings = test::writable_encodings();
  const int64_t n = 37, k = 150;
  const auto values = test::weight_values(n, k, 2);
  const std::vector<int32_t> tokens = {36, 0, 15, 16};
  const GpuBuffer of_tokens(device_, tokens.data(), tokens.size() * 4);
  for (const Encoding& e : encodings) {
    const Weight w = encode(e, n, k, values.data());
    const GpuWeight on(device_, w);
    const GpuBuffer to(device_, static_cast<uint64_t>(4 * k * 4));
    device_.run(&cuda::Ops::embed,
                {on.tiles(), of_tokens.data<int32_t>(), 4, 0.5f, to.data<float>()});
    const auto got = read(to);
    std::vector<float> expected(static_cast<size_t>(4 * k));
    for (size_t t = 0; t < 4; ++t)
      reference_decode(w, tokens[t], 1, expected.data() + t * static_cast<size_t>(k));
    for (float& v : expected) v *= 0.5f;
    for (size_t i = 0; i < got.size(); ++i) {
      // f32 weights are rounded to f16.
      if (e == Encoding::dense(DType::kF32))
        ASSERT_NEAR(got[i], expected[i], std::fabs(static_cast<double>(expected[i])) * 5e-4);
      else
        ASSERT_EQ(got[i], expected[i]) << to_string(e) << " " << i;
    }
  }
}

TEST(Top, is_that_of_the_sampler) {
  GpuDevice device(cuda::ops_table());
  const auto top = [&](const std::vector<float>& x, size_t k) {
    const auto n = static_cast<int64_t>(x.size());
    const auto workspace = static_cast<uint64_t>(cuda::top_k_workspace(n, static_cast<int64_t>(k)));
    const GpuBuffer from(device, x.data(), x.size() * 4), keys(device, workspace * 8),
        to(device, k * 8);
    device.run(&cuda::Ops::top, {from.data<float>(), n, static_cast<int32_t>(k),
                                 keys.data<uint64_t>(), to.data<uint64_t>()});
    std::vector<uint64_t> found(k);
    device.download(found.data(), to.data(), k * 8);
    std::vector<std::pair<float, int32_t>> pairs;
    for (const uint64_t key : found) {
      pairs.emplace_back(cuda::key_float(key), static_cast<int32_t>(~static_cast<uint32_t>(key)));
    }
    return pairs;
  };
  for (const auto& [n, k] : {std::pair<int64_t, size_t>{1, 1},
                             {70, 70},
                             {2048, 3},
                             {2049, 1},
                             {40000, 256},
                             {5000, 40}}) {
    auto x = test::uniform_values(n, static_cast<uint64_t>(n), 3);
    for (size_t i = 0; i < x.size(); i += 7) x[i] = x[i / 2];  // ties
    if (n > 60) {
      x[13] = -0.0f;
      x[11] = 0.0f;
      x[17] = -std::numeric_limits<float>::infinity();
      x[50] = std::numeric_limits<float>::infinity();
    }
    std::vector<Candidate> expected(k);
    likeliest(x, expected);
    const auto got = top(x, k);
    for (size_t i = 0; i < k; ++i) {
      ASSERT_EQ(got[i].second, expected[i].id) << n << " " << k << " " << i;
      ASSERT_EQ(got[i].first, expected[i].logit);
    }
  }
  EXPECT_TRUE(std::isnan(top({1, std::numeric_limits<float>::quiet_NaN(), 5}, 1)[0].first));
  EXPECT_THROW(top(std::vector<float>(10), 11), Error);
}

}  // namespace
}  // namespace pith
