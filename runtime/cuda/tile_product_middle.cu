#include "runtime/cuda/tile_product.h"

namespace pith::cuda {

Status tile_product_middle(const TileProduct& a, Stream stream) {
  switch (a.to[0].w.codes) {
    case Codes::kInt5:
      return run_tile_product<Codes::kInt5>(a, stream);
    case Codes::kInt6:
      return run_tile_product<Codes::kInt6>(a, stream);
    case Codes::kInt8:
      return run_tile_product<Codes::kInt8>(a, stream);
    default:
      return "product: codes of another file";
  }
}

}  // namespace pith::cuda
