#include "runtime/cuda/products.h"

namespace pith::cuda {

Status products_floats(const TileProduct& a, Stream stream) {
  switch (a.to[0].w.codes) {
    case Codes::kE4M3:
      return run_product<Halves<Codes::kE4M3>>(a, stream);
    case Codes::kE5M2:
      return run_product<Halves<Codes::kE5M2>>(a, stream);
    case Codes::kF16:
      return run_product<Halves<Codes::kF16>>(a, stream);
    case Codes::kBF16:
      return run_product<Halves<Codes::kBF16>>(a, stream);
    default:
      return "product: codes of another file";
  }
}

}  // namespace pith::cuda
