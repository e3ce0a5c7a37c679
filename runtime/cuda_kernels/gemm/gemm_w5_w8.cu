#include "runtime/cuda_kernels/gemm/launch_gemm.cuh"

namespace pith::cuda {

Status gemm_w5_w8(const QuantGemm& a, Stream stream) {
  switch (a.to[0].w.format) {
    case NumberFormat::kInt5:
      return run_gemm<F16Math<NumberFormat::kInt5>>(a, stream);
    case NumberFormat::kInt6:
      return run_gemm<F16Math<NumberFormat::kInt6>>(a, stream);
    case NumberFormat::kInt8:
      return run_gemm<F16Math<NumberFormat::kInt8>>(a, stream);
    default:
      return refuse("gemm_w5_w8: format %ld, it takes 5, 6 and 8 bits", a.to[0].w.format);
  }
}

}  // namespace pith::cuda
