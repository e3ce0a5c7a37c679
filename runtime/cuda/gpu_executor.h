// The executor of a GPU: activations and weights on the device, f32 between operations, f16 with a
// power of two a token as the inputs of GEMMs (runtime/cuda_kernels/gemm/activations.h).
#pragma once

#include <memory>

#include "runtime/cuda_kernels/cuda_ops.h"
#include "runtime/forward/executor.h"

namespace pith {

// `ops` outlive it. A weight that prepare() has not seen is taken to the device for one use.
// batch_invariant: a token's numbers are the same bits whatever else is in its batch and however
// its prompt is cut. Without it that holds for up to 256 tokens, and for prompts below 16; many
// tokens go to cuBLAS, and attend by tiles, whose sums have another order.
std::unique_ptr<Executor> make_gpu_executor(const cuda::Ops& ops, std::string name,
                                            bool batch_invariant = false);
// The same over the first GPU of this machine; Error(kUsage) saying why where there is none.
std::unique_ptr<Executor> make_cuda_executor(bool batch_invariant = false);
// Asks `ops`, which do nothing, for all the memory that the one above would: memory_plan.h.
std::unique_ptr<Executor> make_planning_executor(const cuda::Ops& ops);

}  // namespace pith
