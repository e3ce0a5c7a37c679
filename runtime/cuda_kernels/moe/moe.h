// The MoE router, GEMV and grouped GEMM of experts, and the sum of their outputs: the arguments of
// their kernels. Pointers are to device memory.
#pragma once

#include <stdint.h>

#include "runtime/cuda_kernels/gemm/quant_gemm.h"

namespace pith::cuda {

// MoE router: for each token of the logits [m, experts] the top `chosen` experts, of equal ones the
// first, in ascending order of their indices, and their weights, as runtime/forward/routing.h has
// it.
inline constexpr int32_t kMaxChosen = 64;
struct Route {
  const float* router;
  int64_t m;
  int32_t experts, chosen;
  bool normalized, sigmoid;
  const float* bias;  // [experts], for the choice; or null
  int32_t groups, chosen_groups;
  double scale;
  int32_t* expert;  // [m, chosen]
  float* weight;    // [m, chosen]
};
// MoE GEMV: y[i, r] = row r of expert[i] times x[i / sharing], for one or two weights of each
// expert (gate and up), all of one shape and encoding: the sums of a QuantGemm.
struct ExpertWeights {
  const TileWeight* weights[2];  // [experts], on the device
  const float* bias[2];          // [experts, n], or null
  float* y[2];                   // [pairs, n], rows `ldy` apart
  int32_t count;
  TileWeight like;  // one of them
  int64_t ldy = 0;  // 0: n
};
struct MoeGemv {
  ExpertWeights of;
  const int32_t* expert;  // [pairs]; null: of heads, pair i has weight i % heads
  int64_t pairs, sharing;
  HalfInputs x;
  int32_t heads = 0;
};
// For many tokens: pairs sorted by expert, those of one in their order. place[i] is where pair i
// went, row[place[i]] = i / sharing; those of expert e are at [first[e], first[e + 1]).
struct SortPairs {
  const int32_t* expert;  // [pairs]
  int64_t pairs;
  int32_t experts, sharing;
  int32_t* place;  // [pairs]
  int32_t* row;    // [pairs]
  int32_t* first;  // [experts + 1]
};
// MoE GEMM (grouped GEMM) over pairs in that order: y[p] from x[row[p]], or from x[p] where `row`
// is null. For the per-head weights of MLA, `first` is null: every weight has `most` pairs. Sums
// are those of a QuantGemm with this plan, which has no split-K.
struct MoeGemm {
  ExpertWeights of;
  const int32_t* first;
  int32_t experts;
  int64_t most;  // pairs of one expert
  const int32_t* row;
  HalfInputs x;
  GemmPlan plan;  // 16 tokens, or kMaxExpertTokens; of heads the latter
};
// y[t] += sum of weight[t, j] * x[place of t * chosen + j], in order
struct CombineExperts {
  const float* x;        // [m * chosen, n]
  const int32_t* place;  // [m * chosen], or null: in order
  const float* weight;   // [m, chosen]
  int64_t m, n;
  int32_t chosen;
  float* y;  // [m, n]
};
// y[rows[i]] += weights[rows[i], 0] * x[i], for rows that differ
struct AddRows {
  const float* x;  // [m, n]
  const int64_t* rows;
  const float* weights;  // rows `ldw` apart
  int64_t ldw, m, n;
  float* y;
};

}  // namespace pith::cuda
