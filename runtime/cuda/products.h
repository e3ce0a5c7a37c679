// Products of tiles, by instances of two kernels.
#pragma once

#include "runtime/cuda/block_product.h"
#include "runtime/cuda/tile_product.h"

namespace pith::cuda {
namespace {

template <class Math>
Status run_product(const typename Math::Product& a, Stream stream) {
  return a.plan.tokens == 8 ? run_tile_product<Math>(a, stream)
                            : run_block_product<Math>(a, stream);
}

}  // namespace

// One file of instances each.
Status products_small(const TileProduct& a, Stream stream);   // 2 to 4 bits, nf4
Status products_middle(const TileProduct& a, Stream stream);  // 5 to 8 bits
Status products_floats(const TileProduct& a, Stream stream);  // floats of 8 and 16 bits
Status products_ints(const Int8Product& a, Stream stream);

}  // namespace pith::cuda
