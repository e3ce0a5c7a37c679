// What a model will take of a device's memory, before any of it is taken.
#pragma once

#include "runtime/cuda_kernels/cuda_ops.h"
#include "runtime/forward/executor.h"

namespace pith {

// By doing all that will be done, on a device that does nothing but count: loading from
// `use.first_block` on, the longest pass of a prompt and a step of decoding at the end of the
// context. Takes milliseconds. `available` is what `ops` say is free.
MemoryPlan plan_gpu_memory(const cuda::Ops& ops, const Model& model, const ModelUse& use);

// The same, or Error(kMemory) with the numbers where it does not fit, and with the most last layers
// that do. Where `use` leaves it open, passes are of 4096 tokens, or of the half, a quarter, an
// eighth of it where that fits.
MemoryPlan require_gpu_memory(const cuda::Ops& ops, const Model& model, const ModelUse& use);

}  // namespace pith
