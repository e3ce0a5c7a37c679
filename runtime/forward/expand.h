// The composites of ops.h by primitives: their definition, and their execution wherever a backend
// has nothing faster.
#pragma once

#include "runtime/forward/executor.h"

namespace pith {

void expand(const LinearsOp& op, Executor& executor);
void expand(const ActivateLinearOp& op, Executor& executor);
void expand(const AttentionLinearOp& op, Executor& executor);
void expand(const HeadLinearsOp& op, Executor& executor);
void expand(const LatentAttentionOp& op, Executor& executor);
void expand(const MoeOp& op, Executor& executor);

// A composite, or false: `op` is a primitive, and nothing was done.
bool expand_composite(const Op& op, Executor& executor);

// The two steps of MoeOp: the choice of experts, which leaves their weights in
// TensorId::kRouterWeights, and one expert for the rows that chose it.
struct Routing {
  Tensor weights;                          // [m, experts]
  std::vector<std::vector<int64_t>> rows;  // by expert, in order
};
Routing route_tokens(const MoeOp& op, Executor& executor);
void run_expert(const MoeOp& op, const Routing& routing, int64_t expert, Executor& executor);

}  // namespace pith
