#include "runtime/cuda/products.h"

namespace pith::cuda {

Status products_middle(const TileProduct& a, Stream stream) {
  switch (a.to[0].w.codes) {
    case Codes::kInt5:
      return run_product<Halves<Codes::kInt5>>(a, stream);
    case Codes::kInt6:
      return run_product<Halves<Codes::kInt6>>(a, stream);
    case Codes::kInt8:
      return run_product<Halves<Codes::kInt8>>(a, stream);
    default:
      return "product: codes of another file";
  }
}

}  // namespace pith::cuda
