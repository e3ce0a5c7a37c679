#include "runtime/cuda/tile_product.h"

namespace pith::cuda {

Status tile_product_small(const TileProduct& a, Stream stream) {
  switch (a.to[0].w.codes) {
    case Codes::kInt2:
      return run_tile_product<Codes::kInt2>(a, stream);
    case Codes::kInt3:
      return run_tile_product<Codes::kInt3>(a, stream);
    case Codes::kInt4:
      return run_tile_product<Codes::kInt4>(a, stream);
    case Codes::kNf4:
      return run_tile_product<Codes::kNf4>(a, stream);
    default:
      return "product: codes of another file";
  }
}

}  // namespace pith::cuda
