#include "runtime/cuda/products.h"

namespace pith::cuda {

Status products_ints(const Int8Product& a, Stream stream) {
  for (int i = 0; i < a.count; ++i) {
    if (!takes_int8(a.to[i].w)) return "int8 product: weights of another kind";
  }
  if (a.to[0].w.codes == Codes::kInt4) return run_product<Ints<Codes::kInt4>>(a, stream);
  return run_product<Ints<Codes::kInt8>>(a, stream);
}

}  // namespace pith::cuda
