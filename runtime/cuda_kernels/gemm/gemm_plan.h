// Tile sizes, pipeline stages and split-K of a quantized GEMM: pure functions of its shape and of
// the chip.
//
// Up to 8 tokens go by gemv.cuh. More go by gemm.cuh: a block has 32 rows a warp and
// 16, 32 or 64 tokens (not all codes); blocks that share rows and tokens split the columns. Columns
// are in kParts parts, whose sums are added in order: the bits of an element depend neither on the
// plan nor on the number of tokens.
#pragma once

#include "runtime/cuda_kernels/gemm/quant_gemm.h"

namespace pith::cuda {

inline constexpr int64_t kParts = 8;     // of the columns, in whole stages
inline constexpr int64_t kRowTiles = 2;  // of a warp of a block
// Shared memory for scales and zeros (of trellis codes: tails) of a tile and a stage: 8 groups of
// 16 rows, at most 2 bytes a scale (those of 4 bytes have one group).
inline constexpr int64_t kScaleBytes = 256, kZeroBytes = 128;
inline constexpr int64_t kNf4TableBytes = 1024;
// For more tokens a weight is dequantized to f16 once and multiplied by cuBLAS.
inline constexpr int64_t kMaxBlockTokens = 256;

// Most tokens of a block whose accumulators fit the registers: fewer where scales are applied
// often, or where codes take many steps to dequantize; 32 for experts always.
PITH_BOTH constexpr int32_t max_tokens(NumberFormat format, int steps_of_group) {
  const bool many_steps =
      format == NumberFormat::kInt2 || format == NumberFormat::kInt3 || is_trellis(format);
  return steps_of_group == 8 && !many_steps ? 64 : 32;
}
inline constexpr int32_t kMaxExpertTokens = 32;

PITH_BOTH constexpr int64_t stages_of_part(int64_t stages) {
  return (stages + kParts - 1) / kParts;
}

// A token's inputs of a stage in shared memory, elements of 1 or 2 bytes: some banks further than
// its neighbour's.
PITH_BOTH constexpr int64_t input_row_bytes(int64_t element) {
  return kStageColumns * element + (element == 2 ? 32 : 16);
}
PITH_BOTH constexpr int64_t code_bytes(NumberFormat format) {  // of a tile and a stage
  return 32 * 8 * (parts_of(format).low + parts_of(format).high);
}
PITH_BOTH constexpr int64_t stage_bytes(NumberFormat format, int64_t element, int64_t tokens,
                                        int64_t warps) {
  return tokens * input_row_bytes(element) +
         warps * kRowTiles * (code_bytes(format) + kScaleBytes + kZeroBytes);
}
// Sums of one block for one part.
PITH_BOTH constexpr int64_t sums_bytes(int64_t tokens, int64_t warps) {
  return warps * kRowTiles * kTileRows * tokens * 4;
}
PITH_BOTH constexpr int64_t shared_bytes(NumberFormat format, int64_t element, const GemmPlan& p) {
  return (format == NumberFormat::kNf4 ? kNf4TableBytes : 0) +
         (p.splits == 1 ? sums_bytes(p.tokens, p.warps) : 0) +
         p.stages * stage_bytes(format, element, p.tokens, p.warps);
}

// Blocks of a product but for splits.
template <class Product>
int64_t blocks_of(const Product& a, const GemmPlan& p) {
  int64_t blocks = 0;
  for (int i = 0; i < a.count; ++i)
    blocks += (a.to[i].w.tiles + kRowTiles * p.warps - 1) / (kRowTiles * p.warps);
  return blocks * ((a.x.m + p.tokens - 1) / p.tokens);
}
// Bytes of GemmWorkspace::sums; `arrived` has an int32 a block.
template <class Product>
uint64_t workspace_bytes(const Product& a, const GemmPlan& p) {
  if (p.tokens == 8 || p.splits == 1) return 0;
  return static_cast<uint64_t>(blocks_of(a, p) * kParts * sums_bytes(p.tokens, p.warps));
}

// A plan for this product on this chip: as many rows a block as its shared memory holds, so that
// inputs are read seldom, and the fewest splits that keep three quarters of it busy.
template <class Product>
GemmPlan plan_gemm(const Product& a, const Chip& chip) {
  GemmPlan p{8, 8, 4, 1};
  if (a.x.m <= 8) return p;
  const NumberFormat format = a.to[0].w.format;
  const int64_t element = sizeof(*a.x.values);
  const int32_t most = max_tokens(format, group_steps(a.to[0].w.group_shift));
  p.tokens = a.x.m <= 16 ? 16 : a.x.m <= 32 ? 32 : most;
  if (parts_of(format).low == 16) p.warps = 4;
  const auto fits = [&](int32_t stages) {
    p.stages = stages;
    return shared_bytes(format, element, p) <= chip.shared_bytes;
  };
  while (!fits(2) && p.warps > 1) p.warps /= 2;
  while (!fits(2) && p.tokens > 16) p.tokens /= 2;
  for (p.stages = 4; p.stages > 2 && !fits(p.stages);) --p.stages;

  const int64_t blocks = blocks_of(a, p), stages = a.to[0].w.stages;
  const int64_t parts = (stages + stages_of_part(stages) - 1) / stages_of_part(stages);
  double best = 0;
  for (int32_t splits = 1; splits <= parts && best < 0.75; splits *= 2) {
    const int64_t all = blocks * splits,
                  waves = (all + chip.multiprocessors - 1) / chip.multiprocessors;
    const double busy =
        static_cast<double>(all) / static_cast<double>(waves * chip.multiprocessors);
    if (busy > best * 1.05) {
      best = busy;
      p.splits = splits;
    }
  }
  return p;
}

// Whether pairs of a token and an expert are multiplied one by one, rather than sorted by expert:
// while few experts have more than one or two.
inline bool pair_by_pair(int64_t pairs, int64_t experts) { return pairs <= 2 * experts; }

// Plans the GEMM of experts of this kind that get about `tokens` tokens each.
inline GemmPlan plan_experts(const TileWeight& kind, int64_t tokens, const Chip& chip) {
  QuantGemm p{};
  p.to[0].w = kind;
  p.count = 1;
  p.x.m = tokens <= 24 ? 16 : kMaxExpertTokens;
  GemmPlan plan = plan_gemm(p, chip);
  plan.splits = 1;
  return plan;
}

}  // namespace pith::cuda
