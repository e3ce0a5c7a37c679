// MoE GEMV and grouped GEMM of the experts that tokens were routed to.
#include "runtime/cuda_kernels/gemm/dispatch_format.cuh"
#include "runtime/cuda_kernels/gemm/launch_gemm.cuh"
#include "runtime/cuda_kernels/refuse.h"

namespace pith::cuda {
namespace {

// y[i, r] = row r of weight expert[i] times x[i / sharing]; of heads, expert[i] is i % heads
//
// w, x    as in gemv.cuh, all w of one shape
// needs   expert[i] one of the table                                  (as route() writes them)
// sums    those of gemv.cuh for one token
// grid    x: tiles of all weights of an expert, y: pairs of a token and an expert; 8 warps
// bound   memory: bytes of the chosen; experts that several tokens chose come from the L2 cache
template <class Math, int kSteps>
PITH_KERNEL moe_gemv_kernel(MoeGemv a) {
  wait_for_previous();  // which experts is known only then
  const int64_t pair = block_y();
  const bool second = block_x() >= a.of.like.tiles;
  const int64_t expert = a.expert ? a.expert[pair] : pair % a.heads;
  const TileWeight w = (second ? a.of.weights[1] : a.of.weights[0])[expert];
  const int64_t row = pair / a.sharing;
  HalfInputs x = a.x;
  x.values += row * x.stride;
  x.scales += row;
  x.m = 1;
  const float* const biases = second ? a.of.bias[1] : a.of.bias[0];
  multiply_tile<Math, kSteps>(w, biases ? biases + expert * a.of.like.n : nullptr,
                              block_x() - (second ? a.of.like.tiles : 0), x, false,
                              (second ? a.of.y[1] : a.of.y[0]) + pair * a.of.ldy, a.of.ldy);
}

// The same for pairs that are sorted by expert; or (kHeads) those of heads, of each of which every
// a.experts-th row of x and y is.
//
// w, x    as in gemm.cuh
// sums    those of gemm.cuh
// grid    x: 32 rows a warp, of all weights of an expert, by 8 NT of its pairs; y: experts. Blocks
//         behind the pairs of an expert have nothing to do.
// bound   up to some 32 pairs an expert memory: bytes of the chosen; then tensor cores
template <class Math, int NT, int kSteps, bool kHeads>
PITH_KERNEL moe_gemm_kernel(MoeGemm a) {
  wait_for_previous();
  const auto e = static_cast<int32_t>(block_y());
  const int32_t begin = kHeads ? 0 : a.first[e],
                end = kHeads ? static_cast<int32_t>(a.most) : a.first[e + 1];
  const auto of_pairs = static_cast<int32_t>((a.most + 8 * NT - 1) / (8 * NT)),
             block = static_cast<int32_t>(block_x());
  const int32_t first = begin + block % of_pairs * (8 * NT);
  if (first >= end) return;
  const int32_t tiles = static_cast<int32_t>(kRowTiles) * (block_threads() / 32);
  const auto row_blocks = (static_cast<int32_t>(a.of.like.tiles) + tiles - 1) / tiles;
  const bool second = block / of_pairs >= row_blocks;
  const TileWeight w = (second ? a.of.weights[1] : a.of.weights[0])[e];
  HalfInputs x = a.x;
  x.m = end;
  const BlockPlace place{block / of_pairs % row_blocks * tiles, first, 0, 0};
  const float* const biases = second ? a.of.bias[1] : a.of.bias[0];
  const float* const bias = biases ? biases + e * a.of.like.n : nullptr;
  float* const y = a.of.y[second ? 1 : 0];
  if constexpr (kHeads) {
    const auto row_of = [&](int64_t pair) { return pair * a.experts + e; };
    multiply_block<Math, NT, kSteps>(w, bias, x, row_of, a.plan, {}, place, false, y + e * a.of.ldy,
                                     a.experts * a.of.ldy);
  } else {
    const auto row_of = [&](int64_t pair) { return a.row ? a.row[pair] : pair; };
    multiply_block<Math, NT, kSteps>(w, bias, x, row_of, a.plan, {}, place, false, y, a.of.like.n);
  }
}

template <NumberFormat format, int kSteps>
Status run(const MoeGemv& a, Stream stream) {
  return launch(moe_gemv_kernel<F16Math<format>, kSteps>,
                {a.of.like.tiles * a.of.count, a.pairs, 1, 32 * kParts, kParts * 4 * 32 * 4, true},
                stream, a);
}

template <NumberFormat format, int kSteps>
Status run(const MoeGemm& a, Stream stream) {
  const GemmPlan& p = a.plan;
  const int64_t rows = (a.of.like.tiles + kRowTiles * p.warps - 1) / (kRowTiles * p.warps);
  const Grid grid{rows * a.of.count * ((a.most + p.tokens - 1) / p.tokens),
                  a.experts,
                  1,
                  32 * p.warps,
                  shared_bytes(format, sizeof(uint16_t), p),
                  true};
  constexpr int kMax = kMaxExpertTokens / 8;
  if (a.first == nullptr)
    return launch(moe_gemm_kernel<F16Math<format>, kMax, kSteps, true>, grid, stream, a);
  if (p.tokens == 16)
    return launch(moe_gemm_kernel<F16Math<format>, 2, kSteps, false>, grid, stream, a);
  return launch(moe_gemm_kernel<F16Math<format>, kMax, kSteps, false>, grid, stream, a);
}

template <class Product>
Status run_checked(Product a, Stream stream) {
  if (a.of.ldy == 0) a.of.ldy = a.of.like.n;
  if (a.of.count < 1 || a.of.count > 2)
    return refuse("moe_gemm: %ld weights an expert, it takes 1 or 2", a.of.count);
  if (a.x.stride < a.of.like.stages * kStageColumns)
    return refuse("moe_gemm: activations of stride %ld for rows of %ld", a.x.stride,
                  a.of.like.stages * kStageColumns);
  return by_format(a.of.like.format, [&](auto of) {
    constexpr NumberFormat format = decltype(of)::format;
    return by_group_steps<F16Math<format>>(
        a.of.like, [&](auto steps) { return run<format, decltype(steps)::value>(a, stream); });
  });
}

}  // namespace

Status moe_gemv(const MoeGemv& a, Stream stream) {
  if (a.pairs > 65535 || a.sharing < 1)
    return refuse("moe_gemv: %ld pairs, %ld of a token", a.pairs, a.sharing);
  if (a.x.m * a.sharing < a.pairs)
    return refuse("moe_gemv: %ld tokens of %ld pairs each for %ld pairs", a.x.m, a.sharing,
                  a.pairs);
  return run_checked(a, stream);
}
Status moe_gemm(const MoeGemm& a, Stream stream) {
  const GemmPlan& p = a.plan;
  const bool planned = ((p.tokens == 16 && a.first != nullptr) || p.tokens == kMaxExpertTokens) &&
                       p.warps >= 1 && p.warps <= 8 && p.stages >= 2 && p.stages <= 4 &&
                       p.splits == 1;
  return planned ? run_checked(a, stream) : "experts: a plan that is none";
}

}  // namespace pith::cuda
