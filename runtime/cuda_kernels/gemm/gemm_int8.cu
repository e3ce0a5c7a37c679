#include "runtime/cuda_kernels/gemm/launch_gemm.cuh"

namespace pith::cuda {

Status gemm_int8(const Int8Gemm& a, Stream stream) {
  for (int i = 0; i < a.count; ++i) {
    if (!takes_int8(a.to[i].w)) return "int8 product: weights of another kind";
  }
  if (a.to[0].w.codes == Codes::kInt4) return run_gemm<Int8Math<Codes::kInt4>>(a, stream);
  return run_gemm<Int8Math<Codes::kInt8>>(a, stream);
}

}  // namespace pith::cuda
