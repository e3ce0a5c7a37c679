// Kernels of mixtures of experts against the processor's code.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "runtime/cuda/gpu_weight.h"
#include "runtime/cuda_kernels/gemm/gemm_plan.h"
#include "runtime/cuda_kernels/ops_table.h"
#include "runtime/forward/routing.h"
#include "tests/support/encodings.h"

namespace pith {
namespace {

template <class T>
GpuBuffer upload(GpuDevice& device, const std::vector<T>& from) {
  return {device, from.data(), from.size() * sizeof(T)};
}
template <class T>
std::vector<T> download(GpuDevice& device, const GpuBuffer& from) {
  std::vector<T> to(from.bytes() / sizeof(T));
  device.download(to.data(), from.data(), from.bytes());
  return to;
}

// The choice of the device for [m, experts] logits is that of the CPU.
void expect_routed(GpuDevice& device, const proto::Moe& spec, const std::vector<float>& router,
                   const std::vector<float>& bias, float most) {
  const auto experts = static_cast<int32_t>(spec.experts()),
             chosen = static_cast<int32_t>(spec.chosen());
  const int64_t m = std::ssize(router) / experts;
  std::vector<float> expected(router.size());
  route(spec, router, bias, expected);
  const GpuBuffer logits = upload(device, router), of_bias = upload(device, bias);
  const auto pairs = static_cast<uint64_t>(m * chosen);
  const GpuBuffer expert(device, pairs * 4), weight(device, pairs * 4);
  device.run(&cuda::Ops::route,
             {logits.data<float>(), m, experts, chosen, spec.normalized(), spec.sigmoid(),
              of_bias.data<float>(), static_cast<int32_t>(spec.groups()),
              static_cast<int32_t>(spec.chosen_groups()), spec.scale(), expert.data<int32_t>(),
              weight.data<float>()});
  const auto found = download<int32_t>(device, expert);
  const auto weights = download<float>(device, weight);
  EXPECT_EQ(std::ranges::count_if(expected, [](float w) { return w != 0; }), m * chosen);
  for (size_t i = 0; i < pairs; ++i) {
    ASSERT_LT(found[i], experts);
    const float weight_of_cpu =
        expected[i / static_cast<size_t>(chosen) * spec.experts() + static_cast<size_t>(found[i])];
    EXPECT_NE(weight_of_cpu, 0) << spec.ShortDebugString();
    EXPECT_NEAR(weights[i], weight_of_cpu, most);
    if (i % static_cast<size_t>(chosen) > 0) {
      EXPECT_GT(found[i], found[i - 1]);
    }
  }
}

TEST(DeviceMoe, chooses_the_experts_that_the_cpu_chooses) {
  GpuDevice device(cuda::ops_table());
  for (const int32_t experts : {1, 2, 8, 31, 32, 33, 128, 300}) {
    for (const int32_t chosen : {1, 2, 8, 64}) {
      if (chosen > experts) continue;
      for (const bool normalized : {false, true}) {
        const int64_t m = 7;
        auto router = test::uniform_values(m * experts, static_cast<uint64_t>(experts));
        for (float& v : router) v = std::nearbyint(v * 20) / 4;  // some equal
        const auto row = [&](int64_t t) { return router.begin() + t * experts; };
        std::fill_n(row(1), experts, 0.5f);
        std::fill_n(row(2), experts, std::numeric_limits<float>::quiet_NaN());
        *row(3) = INFINITY;
        *(row(4) + experts - 1) = -INFINITY;
        *row(5) = std::numeric_limits<float>::quiet_NaN();
        proto::Moe spec;
        spec.set_experts(static_cast<uint32_t>(experts));
        spec.set_chosen(static_cast<uint32_t>(chosen));
        spec.set_normalized(normalized);
        spec.set_scale(1);
        expect_routed(device, spec, router, {}, 1e-7f);
        if (HasFatalFailure()) return;
      }
    }
  }
}

// Sigmoids, numbers added for the choice, groups, weights that are scaled (DeepSeek).
TEST(DeviceMoe, chooses_by_sigmoids_and_groups_as_the_cpu_does) {
  GpuDevice device(cuda::ops_table());
  const int64_t m = 6;
  const int32_t experts = 48, chosen = 5;
  auto router = test::uniform_values(m * experts, 3);
  for (float& v : router) v *= 6;
  std::fill_n(router.begin() + experts, experts, 0.5f);
  std::fill_n(router.begin() + 2 * experts, experts, -INFINITY);
  router[3 * static_cast<size_t>(experts) + 7] = std::numeric_limits<float>::quiet_NaN();
  const auto bias = test::uniform_values(experts, 8);
  for (const bool sigmoid : {false, true}) {
    for (const uint32_t groups : {0u, 3u, 16u, 48u}) {
      for (const bool normalized : {false, true}) {
        proto::Moe spec;
        spec.set_experts(static_cast<uint32_t>(experts));
        spec.set_chosen(static_cast<uint32_t>(chosen));
        spec.set_normalized(normalized);
        spec.set_sigmoid(sigmoid);
        spec.set_choice_bias(sigmoid);
        spec.set_groups(groups);
        spec.set_chosen_groups(groups == 48 ? 9 : groups / 3 + 1);
        spec.set_scale(2.5);
        expect_routed(device, spec, router, sigmoid ? bias : std::vector<float>(), 1e-6f);
        if (HasFatalFailure()) return;
      }
    }
  }
}

// Weights by head: rows of x and y lie among those of other heads, and further apart.
TEST(DeviceMoe, multiplies_heads_where_they_lie) {
  GpuDevice device(cuda::ops_table());
  cuda::Chip chip{};
  GpuDevice::check(device.ops().chip(&chip), "chip");
  const int64_t n = 40, k = 24, heads = 3, ldx = 37, ldy = 50;
  std::vector<std::unique_ptr<GpuWeight>> weights;
  std::vector<cuda::TileWeight> table;
  std::vector<std::vector<float>> dense;
  for (uint64_t h = 0; h < heads; ++h) {
    const auto values = test::weight_values(n, k, h + 1);
    const Weight w = encode(Encoding::dense(DType::kF16), n, k, values.data());
    dense.emplace_back(static_cast<size_t>(n * k));
    reference_decode(w, 0, n, dense.back().data());
    weights.push_back(std::make_unique<GpuWeight>(device, w));
    table.push_back(weights.back()->tiles());
  }
  const GpuBuffer on_table = upload(device, table);
  for (const int64_t m : {1, 2, 21}) {
    const auto x = test::uniform_values(m * heads * ldx, 9);
    const GpuBuffer on_x = upload(device, x);
    const std::vector<float> untouched(static_cast<size_t>(m * heads * ldy), 7);
    const int64_t stride = 128, rows = m * heads;
    const GpuBuffer halves(device, static_cast<uint64_t>(rows * stride) * 2),
        scales(device, static_cast<uint64_t>(rows) * 4);
    const cuda::HalfInputs inputs{halves.data<uint16_t>(), stride, scales.data<float>(), rows};
    device.run(&cuda::Ops::to_half, {on_x.data<float>() + 5, k, inputs, ldx});
    for (const bool sorted : {false, true}) {
      const GpuBuffer y = upload(device, untouched);
      cuda::ExpertWeights of{
          {on_table.data<cuda::TileWeight>()}, {}, {y.data<float>() + 3}, 1, table.front()};
      of.ldy = ldy;
      if (sorted) {
        device.run(&cuda::Ops::moe_gemm,
                   {of, nullptr, heads, m, nullptr, inputs,
                    cuda::plan_experts(of.like, cuda::kMaxExpertTokens, chip)});
      } else {
        device.run(&cuda::Ops::moe_gemv, {of, nullptr, rows, 1, inputs, heads});
      }
      const auto found = download<float>(device, y);
      for (int64_t i = 0; i < rows * ldy; ++i) {
        const int64_t row = i / ldy, column = i % ldy - 3;
        double expected = 7;
        if (column >= 0 && column < n) {
          expected = 0;
          for (int64_t c = 0; c < k; ++c)
            expected +=
                static_cast<double>(
                    dense[static_cast<size_t>(row % heads)][static_cast<size_t>(column * k + c)]) *
                static_cast<double>(x[static_cast<size_t>(row * ldx + 5 + c)]);
        }
        ASSERT_NEAR(found[static_cast<size_t>(i)], expected, 2e-3)
            << m << " " << sorted << " " << i;
      }
    }
  }
}

TEST(DeviceMoe, sorts_pairs_by_expert) {
  GpuDevice device(cuda::ops_table());
  for (const int64_t pairs : {1, 255, 256, 257, 1000}) {
    const int32_t experts = 7, sharing = 3;
    std::vector<int32_t> expert(static_cast<size_t>(pairs)), order(expert.size());
    for (size_t i = 0; i < expert.size(); ++i) expert[i] = static_cast<int32_t>(i * i % 11 % 6);
    const GpuBuffer from = upload(device, expert), place(device, from.bytes()),
                    row(device, from.bytes()), first(device, (experts + 1) * 4);
    device.run(&cuda::Ops::sort_pairs,
               {from.data<int32_t>(), pairs, experts, sharing, place.data<int32_t>(),
                row.data<int32_t>(), first.data<int32_t>()});
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, {}, [&](int32_t i) { return expert[static_cast<size_t>(i)]; });
    const auto places = download<int32_t>(device, place), rows = download<int32_t>(device, row),
               firsts = download<int32_t>(device, first);
    for (size_t p = 0; p < order.size(); ++p) {
      EXPECT_EQ(places[static_cast<size_t>(order[p])], static_cast<int32_t>(p));
      EXPECT_EQ(rows[p], order[p] / sharing);
    }
    for (int32_t e = 0; e <= experts; ++e)
      EXPECT_EQ(firsts[static_cast<size_t>(e)],
                std::ranges::count_if(expert, [&](int32_t v) { return v < e; }));
  }
}

// The bits of the product of one weight and one token.
TEST(DeviceMoe, multiplies_each_pair_as_if_it_were_alone) {
  GpuDevice device(cuda::ops_table());
  cuda::Chip chip{};
  GpuDevice::check(device.ops().chip(&chip), "chip");
  const int64_t n = 40, k = 200, experts = 3, sharing = 2, m = 14;
  for (const Encoding& e :
       {Encoding::integer(4, 32, false), Encoding::integer(3, 64), Encoding::dense(DType::kBF16)}) {
    std::vector<std::unique_ptr<GpuWeight>> weights;
    std::vector<cuda::TileWeight> tables[2];
    for (uint64_t i = 0; i < 2 * experts; ++i) {
      const Weight w = encode(e, n, k, test::weight_values(n, k, i + 1).data());
      weights.push_back(std::make_unique<GpuWeight>(device, w));
      tables[i % 2].push_back(weights.back()->tiles());
    }
    const GpuBuffer first = upload(device, tables[0]), second = upload(device, tables[1]),
                    of_biases = upload(device, test::uniform_values(experts * n, 12));
    std::vector<int32_t> expert = {0, 2, 1, 2, 0, 1, 2, 2};
    expert.resize(m * sharing, 2);  // more than a block of them
    const GpuBuffer chosen = upload(device, expert);
    const GpuBuffer x = upload(device, test::uniform_values(m * k, 9));
    const int64_t stride = 256, pairs = m * sharing;
    const GpuBuffer halves(device, static_cast<uint64_t>(m * stride) * 2), scales(device, m * 4);
    const cuda::HalfInputs inputs{halves.data<uint16_t>(), stride, scales.data<float>(), m};
    device.run(&cuda::Ops::to_half, {x.data<float>(), k, inputs});
    const GpuBuffer a(device, static_cast<uint64_t>(pairs * n) * 4), b(device, a.bytes()),
        alone(device, static_cast<uint64_t>(n) * 4);
    const cuda::TileWeight& kind = tables[0].front();
    device.run(&cuda::Ops::moe_gemv,
               {{{first.data<cuda::TileWeight>(), second.data<cuda::TileWeight>()},
                 {nullptr, of_biases.data<float>()},
                 {a.data<float>(), b.data<float>()},
                 2,
                 kind},
                chosen.data<int32_t>(),
                pairs,
                sharing,
                inputs});
    const GpuBuffer place(device, chosen.bytes()), row(device, chosen.bytes()),
        begins(device, (experts + 1) * 4), sorted_a(device, a.bytes()), sorted_b(device, a.bytes());
    device.run(&cuda::Ops::sort_pairs,
               {chosen.data<int32_t>(), pairs, static_cast<int32_t>(experts),
                static_cast<int32_t>(sharing), place.data<int32_t>(), row.data<int32_t>(),
                begins.data<int32_t>()});
    for (const int64_t tokens : {int64_t{16}, int64_t{cuda::kMaxExpertTokens}}) {
      cuda::GemmPlan plan = cuda::plan_experts(kind, tokens, chip);
      EXPECT_EQ(plan.tokens, tokens);
      plan.warps = tokens == 16 ? 1 : 2;
      device.run(&cuda::Ops::moe_gemm,
                 {{{first.data<cuda::TileWeight>(), second.data<cuda::TileWeight>()},
                   {nullptr, of_biases.data<float>()},
                   {sorted_a.data<float>(), sorted_b.data<float>()},
                   2,
                   kind},
                  begins.data<int32_t>(),
                  static_cast<int32_t>(experts),
                  pairs,  // here an expert may be chosen twice
                  row.data<int32_t>(),
                  inputs,
                  plan});
      const auto places = download<int32_t>(device, place);
      for (int which = 0; which < 2; ++which) {
        const auto by_pair = download<float>(device, which == 0 ? a : b),
                   sorted = download<float>(device, which == 0 ? sorted_a : sorted_b);
        for (int64_t p = 0; p < pairs; ++p)
          EXPECT_TRUE(std::equal(by_pair.begin() + p * n, by_pair.begin() + (p + 1) * n,
                                 sorted.begin() + places[static_cast<size_t>(p)] * n))
              << p << " of " << to_string(e);
      }
    }
    for (int which = 0; which < 2; ++which) {
      const auto all = download<float>(device, which == 0 ? a : b);
      for (int64_t p = 0; p < pairs; ++p) {
        const int64_t t = p / sharing;
        cuda::QuantGemm product{};
        product.to[0] = {
            tables[which][static_cast<size_t>(expert[static_cast<size_t>(p)])], alone.data<float>(),
            n, which == 1 ? of_biases.data<float>() + expert[static_cast<size_t>(p)] * n : nullptr};
        product.count = 1;
        product.x = {inputs.values + t * stride, stride, inputs.scales + t, 1};
        product.plan = {8, 8, 4, 1};
        device.run(&cuda::Ops::quant_gemm, product);
        const auto one = download<float>(device, alone);
        EXPECT_TRUE(std::equal(one.begin(), one.end(), all.begin() + p * n)) << p;
      }
    }
  }
}

TEST(DeviceMoe, adds_up_what_experts_make) {
  GpuDevice device(cuda::ops_table());
  const int64_t m = 3, n = 300;
  const int32_t chosen = 5;
  const auto made = test::uniform_values(m * chosen * n, 1),
             weights = test::uniform_values(m * 5, 2), before = test::uniform_values(m * n, 3);
  const GpuBuffer x = upload(device, made), w = upload(device, weights);
  {
    const GpuBuffer y = upload(device, before);
    device.run(&cuda::Ops::combine_experts,
               {x.data<float>(), nullptr, w.data<float>(), m, n, chosen, y.data<float>()});
    const auto after = download<float>(device, y);
    for (int64_t t = 0; t < m; ++t) {
      for (int64_t i = 0; i < n; ++i) {
        float sum = before[static_cast<size_t>(t * n + i)];
        for (int64_t j = t * chosen; j < (t + 1) * chosen; ++j)
          sum += weights[static_cast<size_t>(j)] * made[static_cast<size_t>(j * n + i)];
        ASSERT_EQ(after[static_cast<size_t>(t * n + i)], sum);
      }
    }
  }
  const std::vector<int64_t> rows = {2, 0};
  const GpuBuffer y = upload(device, before), at = upload(device, rows);
  device.run(&cuda::Ops::add_rows,
             {x.data<float>(), at.data<int64_t>(), w.data<float>() + 1, 5, 2, n, y.data<float>()});
  const auto after = download<float>(device, y);
  for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
    const auto size = static_cast<size_t>(n);
    EXPECT_EQ(after[i], before[i] + weights[1] * made[size + i]);
    EXPECT_EQ(after[size + i], before[size + i]);
    EXPECT_EQ(after[2 * size + i], before[2 * size + i] + weights[11] * made[i]);
  }
}

TEST(DeviceMoe, refuses_what_it_does_not_take) {
  const cuda::Ops& ops = cuda::ops_table();
  EXPECT_NE(
      ops.route({nullptr, 1, 4, 5, false, false, nullptr, 0, 0, 1, nullptr, nullptr}, nullptr),
      nullptr);
  EXPECT_NE(
      ops.route({nullptr, 1, 400, 65, false, false, nullptr, 0, 0, 1, nullptr, nullptr}, nullptr),
      nullptr);
  cuda::MoeGemv p{};
  p.of.count = 1;
  p.sharing = 1;
  p.pairs = 2;
  p.of.like.stages = 1;
  p.x.stride = 128;
  p.x.m = 1;
  EXPECT_NE(ops.moe_gemv(p, nullptr), nullptr);
}

}  // namespace
}  // namespace pith
