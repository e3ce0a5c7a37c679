#include "runtime/cuda_kernels/gemm/launch_gemm.cuh"

namespace pith::cuda {

Status gemm_float(const QuantGemm& a, Stream stream) {
  switch (a.to[0].w.format) {
    case NumberFormat::kE4M3:
      return run_gemm<F16Math<NumberFormat::kE4M3>>(a, stream);
    case NumberFormat::kE5M2:
      return run_gemm<F16Math<NumberFormat::kE5M2>>(a, stream);
    case NumberFormat::kF16:
      return run_gemm<F16Math<NumberFormat::kF16>>(a, stream);
    case NumberFormat::kBF16:
      return run_gemm<F16Math<NumberFormat::kBF16>>(a, stream);
    default:
      return refuse("gemm_float: format %ld, it takes fp8, f16 and bf16", a.to[0].w.format);
  }
}

}  // namespace pith::cuda
