#include "runtime/cuda_kernels/gemm/launch_gemm.cuh"

namespace pith::cuda {

Status gemm_w5_w8(const QuantGemm& a, Stream stream) {
  switch (a.to[0].w.codes) {
    case Codes::kInt5:
      return run_gemm<F16Math<Codes::kInt5>>(a, stream);
    case Codes::kInt6:
      return run_gemm<F16Math<Codes::kInt6>>(a, stream);
    case Codes::kInt8:
      return run_gemm<F16Math<Codes::kInt8>>(a, stream);
    default:
      return refuse("gemm_w5_w8: codes %ld, it takes 5, 6 and 8 bits", a.to[0].w.codes);
  }
}

}  // namespace pith::cuda
