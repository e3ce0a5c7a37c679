// Products of every encoding, against the reference decoder in f64.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/bytes.h"
#include "core/dtype.h"
#include "runtime/cpu/matmul.h"
#include "runtime/cuda/gpu_weight.h"
#include "runtime/cuda_kernels/gemm/gemm_plan.h"
#include "runtime/cuda_kernels/ops_table.h"
#include "tests/support/encodings.h"

namespace pith {
namespace {

std::vector<Encoding> encodings() {
  auto all = test::writable_encodings();
  all.push_back(Encoding::dense(DType::kF32));
  return all;
}

struct Case {
  int64_t m, n, k;
};

// Runs a product as `plan` says, or as the plan for its shape does where that is null.
template <class P>
void run_gemm(GpuDevice& device, cuda::Status (*cuda::Ops::*op)(const P&, cuda::Stream), P p,
              const cuda::GemmPlan* plan = nullptr) {
  cuda::Chip chip;
  GpuDevice::check(device.ops().chip(&chip), "chip");
  p.plan = plan != nullptr ? *plan : cuda::plan_gemm(p, chip);
  const cuda::TileWeight& w = p.to[0].w;
  p.plan.tokens =
      std::min(p.plan.tokens, cuda::max_tokens(w.format, cuda::group_steps(w.group_shift)));
  const auto blocks = static_cast<size_t>(cuda::blocks_of(p, p.plan));
  const GpuBuffer sums(device, cuda::workspace_bytes(p, p.plan)), arrived(device, blocks * 4);
  p.workspace = {sums.data(), arrived.data<int32_t>()};
  device.run(op, p);
  std::vector<int32_t> left(blocks);
  device.download(left.data(), arrived.data(), blocks * 4);
  EXPECT_EQ(left, std::vector<int32_t>(blocks));
}

class Product {
 public:
  explicit Product(uint64_t seed = 1, const cuda::GemmPlan* plan = nullptr)
      : device_(cuda::ops_table()), plan_(plan) {
    cuda::set_emulation_seed(seed);
  }

  // x is rounded to f16 with one power of two a token.
  std::vector<float> run(const Weight& w, const std::vector<float>& x, int64_t m,
                         const std::vector<float>& bias, const std::vector<float>& added) {
    const GpuWeight weight(device_, w);
    EXPECT_EQ(weight.bytes(), GpuWeight::bytes_of(w.encoding, w.n, w.k)) << to_string(w.encoding);
    const auto stride = static_cast<int64_t>(round_up(static_cast<uint64_t>(w.k), 128));
    const GpuBuffer values(device_, x.data(), x.size() * 4),
        halves(device_, static_cast<uint64_t>(m * stride * 2)),
        scales(device_, static_cast<uint64_t>(m * 4)),
        of_bias(device_, bias.data(), bias.size() * 4);
    std::vector<float> y = added;
    y.resize(static_cast<size_t>(m * w.n), std::numeric_limits<float>::quiet_NaN());
    const GpuBuffer out(device_, y.data(), y.size() * 4);
    const cuda::HalfInputs inputs{halves.data<uint16_t>(), stride, scales.data<float>(), m};
    device_.run(&cuda::Ops::to_half, {values.data<float>(), w.k, inputs});
    run_gemm(device_, &cuda::Ops::quant_gemm,
             cuda::QuantGemm{{{weight.tiles(), out.data<float>(), w.n, of_bias.data<float>()}},
                             1,
                             inputs,
                             !added.empty(),
                             {},
                             {}},
             plan_);
    device_.download(y.data(), out.data(), y.size() * 4);
    return y;
  }

 private:
  GpuDevice device_;
  const cuda::GemmPlan* plan_;
};

// Inputs that f16 holds exactly: tokens of very different size, one of zeros.
std::vector<float> inputs(int64_t m, int64_t k) {
  auto x = test::uniform_values(m * k, static_cast<uint64_t>(m * 100 + k));
  constexpr float kSizes[] = {1, 0x1p-70f, 0, 0x1p100f, 0x1p-20f};
  for (int64_t t = 0; t < m; ++t) {
    for (int64_t i = 0; i < k; ++i) {
      float& v = x[static_cast<size_t>(t * k + i)];
      v = std::nearbyint(v * 512) / 512 * kSizes[t % 5];
    }
  }
  return x;
}

void expect_gemm(const Encoding& e, const Case& c) {
  const auto weights = test::weight_values(c.n, c.k, 3);
  const Weight w = encode(e, c.n, c.k, weights.data());
  std::vector<float> decoded(static_cast<size_t>(c.n * c.k));
  reference_decode(w, 0, c.n, decoded.data());
  const auto x = inputs(c.m, c.k), bias = test::uniform_values(c.n, 4),
             added = test::uniform_values(c.m * c.n, 5);
  // nf4 and f32 are rounded to f16.
  const bool rounds = e.kind == EncodingKind::kNf4 || e == Encoding::dense(DType::kF32);
  for (const bool with : {false, true}) {
    const auto none = std::vector<float>{};
    const auto y = Product().run(w, x, c.m, with ? bias : none, with ? added : none);
    for (int64_t t = 0; t < c.m; ++t) {
      for (int64_t r = 0; r < c.n; ++r) {
        double sum = 0, size = 0;
        for (int64_t i = 0; i < c.k; ++i) {
          const double product = static_cast<double>(decoded[static_cast<size_t>(r * c.k + i)]) *
                                 static_cast<double>(x[static_cast<size_t>(t * c.k + i)]);
          sum += product;
          size += std::fabs(product);
        }
        const auto at = static_cast<size_t>(t * c.n + r);
        if (with) {
          sum += static_cast<double>(bias[static_cast<size_t>(r)]) + static_cast<double>(added[at]);
          size += 2;
        }
        ASSERT_NEAR(y[at], sum, size * (rounds ? 5e-4 : 2e-6))
            << to_string(e) << ", token " << t << " of " << c.m << ", row " << r << " of " << c.n
            << ", k = " << c.k;
      }
    }
  }
}

TEST(QuantGemm, is_that_of_the_decoded_weight_for_every_encoding) {
  for (const Encoding& e : encodings()) {
    expect_gemm(e, {1, 16, 128});
    if (HasFatalFailure()) return;
    expect_gemm(e, {3, 21, 200});
    if (HasFatalFailure()) return;
  }
}

TEST(QuantGemm, holds_for_every_shape) {
  for (const Encoding& e :
       {Encoding::integer(4, 32, false), Encoding::integer(3, 64), Encoding::integer(8, 0),
        Encoding::fp8(DType::kF8E4M3, ScaleArea::kBlock128)}) {
    for (const Case& c : {Case{1, 1, 1}, Case{8, 17, 31}, Case{9, 5, 129}, Case{17, 33, 16},
                          Case{40, 16, 64}, Case{2, 16, 1100}, Case{33, 18, 300}}) {
      expect_gemm(e, c);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(QuantGemm,
     of_a_token_does_not_depend_on_what_else_is_in_the_batch_nor_on_the_order_of_threads) {
  const int64_t n = 20, k = 700, m = 19;
  const auto weights = test::weight_values(n, k, 3);
  const auto x = inputs(m, k);
  for (const Encoding& e : {Encoding::integer(4, 64, false), Encoding::dense(DType::kBF16)}) {
    const Weight w = encode(e, n, k, weights.data());
    const auto all = Product(1).run(w, x, m, {}, {});
    EXPECT_EQ(Product(2).run(w, x, m, {}, {}), all);
    for (const int64_t t : {0, 4, 18}) {
      const std::vector<float> one(x.begin() + t * k, x.begin() + (t + 1) * k),
          expected(all.begin() + t * n, all.begin() + (t + 1) * n);
      EXPECT_EQ(Product(3).run(w, one, 1, {}, {}), expected) << t;
    }
  }
}

// Every token of a block product, by any plan, has the bits that it has alone.
TEST(BlockGemm, is_that_of_single_tokens_for_every_encoding_and_plan) {
  const int64_t n = 40, k = 1100, m = 19;
  const auto weights = test::weight_values(n, k, 3);
  const auto x = inputs(m, k), bias = test::uniform_values(n, 4);
  constexpr cuda::GemmPlan kPlans[] = {{16, 1, 2, 1}, {32, 2, 3, 4}, {64, 1, 4, 8}};
  size_t turn = 0;
  for (const Encoding& e : encodings()) {
    const Weight w = encode(e, n, k, weights.data());
    const cuda::GemmPlan& plan = kPlans[turn++ % std::size(kPlans)];
    const auto all = Product(turn, &plan).run(w, x, m, bias, {});
    for (const int64_t t : {0, 8, 18}) {
      const std::vector<float> one(x.begin() + t * k, x.begin() + (t + 1) * k),
          got(all.begin() + t * n, all.begin() + (t + 1) * n);
      ASSERT_EQ(Product(3).run(w, one, 1, bias, {}), got)
          << to_string(e) << ", token " << t << ", " << plan.tokens << " tokens a block";
    }
  }
}

TEST(BlockGemm, is_that_of_single_tokens_for_every_shape) {
  for (const Encoding& e : {Encoding::integer(4, 32, false), Encoding::integer(8, 0)}) {
    for (const Case& c : {Case{70, 33, 200}, Case{9, 16, 2500}, Case{130, 1, 16}}) {
      const auto weights = test::weight_values(c.n, c.k, 3);
      const Weight w = encode(e, c.n, c.k, weights.data());
      const auto x = inputs(c.m, c.k), added = test::uniform_values(c.m * c.n, 5);
      for (const cuda::GemmPlan& plan :
           {cuda::GemmPlan{16, 2, 2, 2}, cuda::GemmPlan{64, 2, 4, 1}}) {
        const auto all = Product(5, &plan).run(w, x, c.m, {}, added);
        for (const int64_t t : {int64_t{0}, c.m / 2, c.m - 1}) {
          const auto row = [&](const std::vector<float>& of, int64_t width) {
            return std::vector<float>(of.begin() + t * width, of.begin() + (t + 1) * width);
          };
          ASSERT_EQ(Product(3).run(w, row(x, c.k), 1, {}, row(added, c.n)), row(all, c.n))
              << to_string(e) << " " << c.m << " " << c.n << " " << c.k << ", token " << t;
        }
      }
    }
  }
}

TEST(BlockGemm, refuses_plans_that_are_none) {
  GpuDevice device(cuda::ops_table());
  const auto values = test::weight_values(16, 128, 3);
  const GpuWeight w(device, encode(Encoding::integer(4, 64), 16, 128, values.data()));
  const GpuBuffer x(device, 16 * 128 * 2), scales(device, 16 * 4), y(device, 16 * 16 * 4);
  for (const cuda::GemmPlan& plan :
       {cuda::GemmPlan{}, cuda::GemmPlan{8, 8, 4, 1}, cuda::GemmPlan{16, 3, 4, 1},
        cuda::GemmPlan{16, 2, 1, 1}, cuda::GemmPlan{16, 2, 4, 2}, cuda::GemmPlan{64, 2, 4, 1}}) {
    EXPECT_THROW(
        device.run(&cuda::Ops::quant_gemm, {{{w.tiles(), y.data<float>(), 16, nullptr}},
                                            1,
                                            {x.data<uint16_t>(), 128, scales.data<float>(), 16},
                                            false,
                                            plan,
                                            {}}),
        Error);
  }
}

constexpr NumberFormat kTileFormats[] = {
    NumberFormat::kInt2, NumberFormat::kInt3, NumberFormat::kInt4, NumberFormat::kInt5,
    NumberFormat::kInt6, NumberFormat::kInt8, NumberFormat::kNf4,  NumberFormat::kE2M1,
    NumberFormat::kE4M3, NumberFormat::kE5M2, NumberFormat::kF16,  NumberFormat::kBF16,
    NumberFormat::kTcq2, NumberFormat::kTcq3, NumberFormat::kTcq4};

cuda::QuantGemm shape(NumberFormat format, int64_t n, int64_t k, int64_t m) {
  cuda::QuantGemm p{};
  p.count = 1;
  p.to[0].w.format = format;
  p.to[0].w.tiles = n / 16;
  p.to[0].w.stages = k / 128;
  p.to[0].w.group_shift = 3;
  p.x.m = m;
  return p;
}

TEST(GemmPlan, fits_the_shared_memory_of_every_chip) {
  const cuda::Chip chips[] = {{108, 163 << 10}, {128, 99 << 10}, {132, 227 << 10}, {4, 48 << 10}};
  for (const cuda::Chip& chip : chips) {
    for (const NumberFormat format : kTileFormats) {
      for (const int64_t m : {9, 16, 17, 64, 65, 256}) {
        for (const auto& [n, k] : {std::pair<int64_t, int64_t>{16, 128},
                                   {4096, 4096},
                                   {4096, 14336},
                                   {14336, 4096},
                                   {128256, 8192}}) {
          const auto a = shape(format, n, k, m);
          const cuda::GemmPlan p = cuda::plan_gemm(a, chip);
          EXPECT_LE(cuda::shared_bytes(a.to[0].w.format, 2, p), chip.shared_bytes);
          EXPECT_GE(p.stages, 2);
          EXPECT_GE(p.warps, 1);
          EXPECT_TRUE(p.tokens == 16 || p.tokens == 32 || p.tokens == 64);
          EXPECT_TRUE(p.splits == 1 || p.splits == 2 || p.splits == 4 || p.splits == 8);
          EXPECT_LE(p.splits, std::max<int64_t>(1, k / 128));
        }
      }
    }
  }
}

TEST(GemmPlan, keeps_a_chip_busy_with_as_few_splits_as_it_can) {
  const cuda::Chip h100{132, 227 << 10};
  const auto of = [&](int64_t n, int64_t k, int64_t m) {
    return cuda::plan_gemm(shape(NumberFormat::kInt4, n, k, m), h100);
  };
  EXPECT_EQ(of(4096, 4096, 1).tokens, 8);
  EXPECT_EQ(of(28672, 8192, 16).tokens, 16);
  EXPECT_EQ(of(28672, 8192, 16).splits, 1);  // 112 blocks of 256 rows on 132 processors
  EXPECT_EQ(of(8192, 28672, 64).splits, 4);  // 32 blocks
  EXPECT_EQ(of(4096, 4096, 32).splits, 8);   // 16 blocks
  EXPECT_EQ(of(4096, 4096, 256).splits, 2);  // 64 blocks
}

TEST(QuantGemm, of_several_weights_is_that_of_each) {
  GpuDevice device(cuda::ops_table());
  const int64_t k = 140, m = 2;
  const auto x = inputs(m, k);
  const GpuBuffer values(device, x.data(), x.size() * 4), halves(device, 2 * 256 * 2),
      scales(device, 8);
  const cuda::HalfInputs of{halves.data<uint16_t>(), 256, scales.data<float>(), m};
  device.run(&cuda::Ops::to_half, {values.data<float>(), k, of});
  cuda::QuantGemm all{{}, 0, of, false, {}, {}};
  std::vector<GpuWeight> weights;
  std::vector<GpuBuffer> outputs;
  std::vector<std::vector<float>> expected;
  for (const int64_t n : {40, 16, 5}) {
    const auto w = test::weight_values(n, k, static_cast<uint64_t>(n));
    const Weight encoded = encode(Encoding::integer(5, n == 16 ? 128 : 0), n, k, w.data());
    expected.push_back(Product().run(encoded, x, m, {}, {}));
    weights.emplace_back(device, encoded);
    outputs.emplace_back(device, static_cast<uint64_t>(m * n * 4));
    all.to[all.count++] = {weights.back().tiles(), outputs.back().data<float>(), n, nullptr};
  }
  run_gemm(device, &cuda::Ops::quant_gemm, all);
  for (size_t i = 0; i < 3; ++i) {
    std::vector<float> y(expected[i].size());
    device.download(y.data(), outputs[i].data(), y.size() * 4);
    EXPECT_EQ(y, expected[i]);
  }
}

TEST(Int8Gemm, is_that_of_the_cpu_bit_for_bit) {
  GpuDevice device(cuda::ops_table());
  for (const int64_t m : {1, 9, 20}) {
    for (const auto& [n, k] : {std::pair<int64_t, int64_t>{16, 128}, {21, 300}, {5, 1100}}) {
      const auto values = test::weight_values(n, k, 3);
      const Weight w = encode(Encoding::integer(8, 0), n, k, values.data());
      const GpuWeight on(device, w);
      ASSERT_TRUE(cuda::takes_int8(on.tiles()));
      const auto x = test::uniform_values(m * k, 5), bias = test::uniform_values(n, 6),
                 added = test::uniform_values(m * n, 7);
      for (const float fixed : {0.0f, 0.004f}) {
        for (const bool with : {false, true}) {
          RoundedInputs rounded;
          rounded.set({DType::kI8, fixed > 0 ? InputScale::kTensor : InputScale::kToken, fixed},
                      x.data(), m, k);
          std::vector<float> expected = added;
          MatmulScratch scratch;
          matmul(cpu_kernels(), w, rounded, expected.data(), with, scratch);
          for (int64_t i = 0; with && i < m * n; ++i)
            expected[static_cast<size_t>(i)] += bias[static_cast<size_t>(i % n)];
          const auto stride = static_cast<int64_t>(round_up(static_cast<uint64_t>(k), 128));
          const GpuBuffer from(device, x.data(), x.size() * 4),
              of_bias(device, bias.data(), bias.size() * 4),
              codes(device, static_cast<uint64_t>(m * stride)),
              scales(device, static_cast<uint64_t>(m * 4)),
              y(device, added.data(), added.size() * 4);
          const cuda::Int8Inputs inputs{codes.data<int8_t>(), stride, scales.data<float>(), m,
                                        fixed};
          device.run(&cuda::Ops::to_int8, {from.data<float>(), k, inputs});
          run_gemm(device, &cuda::Ops::int8_gemm,
                   cuda::Int8Gemm{
                       {{on.tiles(), y.data<float>(), n, with ? of_bias.data<float>() : nullptr}},
                       1,
                       inputs,
                       with,
                       {},
                       {}});
          std::vector<float> got(added.size());
          device.download(got.data(), y.data(), got.size() * 4);
          ASSERT_EQ(got, expected) << m << " " << n << " " << k << " " << fixed << " " << with;
        }
      }
    }
  }
}

// Two levels of scales, of which those of groups are factors of an integer sum.
TEST(Int8Gemm, of_four_bits_is_exact) {
  GpuDevice device(cuda::ops_table());
  const int64_t n = 37, k = 700;
  const auto values = test::weight_values(n, k, 3);
  for (const Encoding& e :
       {Encoding::integer(4, 32, true, DType::kF16, true),
        Encoding::integer(4, 128, false, DType::kBF16, true), Encoding::integer(4, 0, false)}) {
    const Weight w = encode(e, n, k, values.data());
    const GpuWeight on(device, w);
    ASSERT_TRUE(cuda::takes_int8(on.tiles())) << to_string(e);
    for (const int64_t m : {3, 21}) {
      const auto x = test::uniform_values(m * k, 5);
      const auto stride = static_cast<int64_t>(round_up(static_cast<uint64_t>(k), 128));
      const GpuBuffer from(device, x.data(), x.size() * 4),
          codes(device, static_cast<uint64_t>(m * stride)),
          scales(device, static_cast<uint64_t>(m * 4)), y(device, static_cast<uint64_t>(m * n * 4));
      const cuda::Int8Inputs inputs{codes.data<int8_t>(), stride, scales.data<float>(), m, 0};
      device.run(&cuda::Ops::to_int8, {from.data<float>(), k, inputs});
      run_gemm(
          device, &cuda::Ops::int8_gemm,
          cuda::Int8Gemm{{{on.tiles(), y.data<float>(), n, nullptr}}, 1, inputs, false, {}, {}});
      std::vector<float> got(static_cast<size_t>(m * n));
      device.download(got.data(), y.data(), got.size() * 4);

      RoundedInputs rounded;
      rounded.set({DType::kI8, InputScale::kToken, 0}, x.data(), m, k);
      std::vector<float> expected(got.size());
      MatmulScratch scratch;
      matmul(cpu_kernels(), w, rounded, expected.data(), false, scratch);
      ASSERT_EQ(got, expected) << to_string(e) << " " << m;
    }
  }
}

TEST(QuantGemm, of_inputs_that_are_not_finite_is_not_a_number) {
  const auto weights = test::weight_values(16, 64, 3);
  const Weight w = encode(Encoding::integer(4, 64), 16, 64, weights.data());
  auto x = inputs(2, 64);
  x[70] = std::numeric_limits<float>::infinity();
  const auto y = Product().run(w, x, 2, {}, {});
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_TRUE(std::isfinite(y[i]));
    EXPECT_TRUE(std::isnan(y[16 + i]));
  }
}

TEST(QuantGemm, has_weights_for_cublas_that_are_the_decoded_ones_in_f16) {
  GpuDevice device(cuda::ops_table());
  const int64_t n = 40, k = 200, stride = 256;
  const auto values = test::weight_values(n, k, 3);
  for (const Encoding& e : encodings()) {
    const Weight w = encode(e, n, k, values.data());
    const GpuWeight on(device, w);
    std::vector<uint16_t> halves(static_cast<size_t>(32 * stride), 0x7e00);
    const GpuBuffer to(device, halves.data(), halves.size() * 2);
    device.run(&cuda::Ops::dequantize, {on.tiles(), 1, 2, to.data<uint16_t>()});  // rows 16 to 48
    device.download(halves.data(), to.data(), halves.size() * 2);
    std::vector<float> row(static_cast<size_t>(k));
    for (int64_t r = 0; r < 32; ++r) {
      if (r + 16 < n) reference_decode(w, r + 16, 1, row.data());
      for (int64_t i = 0; i < stride; ++i) {
        const float got = f16_to_f32(halves[static_cast<size_t>(r * stride + i)]);
        if (i >= k) {  // where inputs are 0
          ASSERT_TRUE(std::isfinite(got));
          continue;
        }
        const float want = r + 16 < n ? row[static_cast<size_t>(i)] : 0;
        // nf4 is rounded before its scale is applied as well.
        const float most = e.kind == EncodingKind::kNf4 ? 1e-3f : 5e-4f;
        ASSERT_NEAR(got, want, std::fabs(want) * most + 6e-8f)
            << to_string(e) << " " << r << " " << i;
      }
    }
  }
}

TEST(QuantGemm, of_cublas_is_finished_with_scales_bias_and_what_was_there) {
  GpuDevice device(cuda::ops_table());
  const std::vector<float> sums = {1, 2, 3, 4, 5, 6, 7, 8}, scales = {10, 100},
                           bias = {0.5f, 0.25f, 0};
  for (const bool add : {false, true}) {
    std::vector<float> y = {1, 1, 1, -1, 2, 2, 2, -1};
    const GpuBuffer of_sums(device, sums.data(), 32), of_scales(device, scales.data(), 8),
        of_bias(device, bias.data(), 12), to(device, y.data(), 32);
    device.run(&cuda::Ops::gemm_epilogue, {of_sums.data<float>(), 4, 3, of_scales.data<float>(), 2,
                                           to.data<float>(), 4, of_bias.data<float>(), add});
    device.download(y.data(), to.data(), 32);
    const float one = add ? 1.0f : 0.0f;
    EXPECT_EQ(y, (std::vector<float>{10.5f + one, 20.25f + one, 30 + one, -1, 500.5f + 2 * one,
                                     600.25f + 2 * one, 700 + 2 * one, -1}));
  }
}

TEST(GpuWeight, that_does_not_fit_f16_is_refused) {
  GpuDevice device(cuda::ops_table());
  std::vector<float> v(32, 1.0f);
  v[5] = 1e6f;
  EXPECT_THROW(GpuWeight(device, encode(Encoding::dense(DType::kF32), 2, 16, v.data())), Error);
}

}  // namespace
}  // namespace pith
