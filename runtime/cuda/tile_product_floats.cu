#include "runtime/cuda/tile_product.h"

namespace pith::cuda {

Status tile_product_floats(const TileProduct& a, Stream stream) {
  switch (a.to[0].w.codes) {
    case Codes::kE4M3:
      return run_tile_product<Codes::kE4M3>(a, stream);
    case Codes::kE5M2:
      return run_tile_product<Codes::kE5M2>(a, stream);
    case Codes::kF16:
      return run_tile_product<Codes::kF16>(a, stream);
    case Codes::kBF16:
      return run_tile_product<Codes::kBF16>(a, stream);
    default:
      return "product: codes of another file";
  }
}

}  // namespace pith::cuda
