#include "runtime/cuda/products.h"

namespace pith::cuda {

Status products_small(const TileProduct& a, Stream stream) {
  switch (a.to[0].w.codes) {
    case Codes::kInt2:
      return run_product<Halves<Codes::kInt2>>(a, stream);
    case Codes::kInt3:
      return run_product<Halves<Codes::kInt3>>(a, stream);
    case Codes::kInt4:
      return run_product<Halves<Codes::kInt4>>(a, stream);
    case Codes::kNf4:
      return run_product<Halves<Codes::kNf4>>(a, stream);
    case Codes::kE2M1:
      return run_product<Halves<Codes::kE2M1>>(a, stream);
    default:
      return "product: codes of another file";
  }
}

}  // namespace pith::cuda
