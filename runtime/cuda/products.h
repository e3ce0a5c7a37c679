// Products of tiles, by instances of two kernels.
#pragma once

#include "runtime/cuda/block_product.h"
#include "runtime/cuda/kernels.h"
#include "runtime/cuda/tile_product.h"

namespace pith::cuda {
namespace {

template <class Math>
Status run_product(const typename Math::Product& a, Stream stream) {
  return a.plan.tokens == 8 ? run_tile_product<Math>(a, stream)
                            : run_block_product<Math>(a, stream);
}

}  // namespace

}  // namespace pith::cuda
