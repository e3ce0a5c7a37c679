// Attention over cached keys and values.
#pragma once

#include "runtime/cpu/kv_cache.h"

namespace pith {

// Online softmax over blocks of 64 keys, f32 throughout. A tile is the queries of all heads that
// share a key head, up to 64 rows. What a row sums up, and in which order, depends on its position
// and on how many rows its tile has, never on threads.
void attend(const CpuKernels& kernels, const proto::Attention& spec, int index, const Batch& batch,
            CpuKvCache& cache, Activation q, Activation k, Activation v, Activation out);

}  // namespace pith
