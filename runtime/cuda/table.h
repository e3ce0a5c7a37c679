#pragma once

#include "runtime/cuda/ops.h"

namespace pith::cuda {

// The functions of this library.
const Ops& ops_table();

}  // namespace pith::cuda
