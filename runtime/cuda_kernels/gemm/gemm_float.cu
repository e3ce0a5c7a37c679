#include "runtime/cuda_kernels/gemm/launch_gemm.cuh"

namespace pith::cuda {

Status gemm_float(const QuantGemm& a, Stream stream) {
  switch (a.to[0].w.codes) {
    case Codes::kE4M3:
      return run_gemm<F16Math<Codes::kE4M3>>(a, stream);
    case Codes::kE5M2:
      return run_gemm<F16Math<Codes::kE5M2>>(a, stream);
    case Codes::kF16:
      return run_gemm<F16Math<Codes::kF16>>(a, stream);
    case Codes::kBF16:
      return run_gemm<F16Math<Codes::kBF16>>(a, stream);
    default:
      return refuse("gemm_float: codes %ld, it takes fp8, f16 and bf16", a.to[0].w.codes);
  }
}

}  // namespace pith::cuda
