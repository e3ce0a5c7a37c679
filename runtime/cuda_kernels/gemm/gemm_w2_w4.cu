#include "runtime/cuda_kernels/gemm/launch_gemm.cuh"

namespace pith::cuda {

Status gemm_w2_w4(const QuantGemm& a, Stream stream) {
  switch (a.to[0].w.format) {
    case NumberFormat::kInt2:
      return run_gemm<F16Math<NumberFormat::kInt2>>(a, stream);
    case NumberFormat::kInt3:
      return run_gemm<F16Math<NumberFormat::kInt3>>(a, stream);
    case NumberFormat::kInt4:
      return run_gemm<F16Math<NumberFormat::kInt4>>(a, stream);
    case NumberFormat::kNf4:
      return run_gemm<F16Math<NumberFormat::kNf4>>(a, stream);
    case NumberFormat::kE2M1:
      return run_gemm<F16Math<NumberFormat::kE2M1>>(a, stream);
    default:
      return refuse("gemm_w2_w4: format %ld, it takes 2 to 4 bits", a.to[0].w.format);
  }
}

}  // namespace pith::cuda
