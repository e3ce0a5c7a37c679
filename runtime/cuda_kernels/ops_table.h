#pragma once

#include "runtime/cuda_kernels/cuda_ops.h"

namespace pith::cuda {

// The functions of this library.
const Ops& ops_table();

// Draws another order of threads where they are emulated; nothing on a device.
void set_emulation_seed(uint64_t seed);

}  // namespace pith::cuda
