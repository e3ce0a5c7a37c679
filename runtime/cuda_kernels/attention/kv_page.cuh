// Where the row of a token lies in a paged cache (attention.h).
#pragma once

#include "runtime/cuda_kernels/attention/attention.h"
#include "runtime/cuda_kernels/device/device.cuh"

namespace pith::cuda {

PITH_DEVICE int64_t cache_row(const Cache& c, int slot, int64_t position, int64_t head) {
  const int64_t page = c.pages[slot * c.pages_per_slot + position / kPageTokens];
  return (page * c.heads + head) * kPageTokens + position % kPageTokens;
}

}  // namespace pith::cuda
