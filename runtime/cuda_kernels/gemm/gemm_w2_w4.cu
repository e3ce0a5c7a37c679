#include "runtime/cuda_kernels/gemm/launch_gemm.cuh"

namespace pith::cuda {

Status gemm_w2_w4(const QuantGemm& a, Stream stream) {
  switch (a.to[0].w.codes) {
    case Codes::kInt2:
      return run_gemm<F16Math<Codes::kInt2>>(a, stream);
    case Codes::kInt3:
      return run_gemm<F16Math<Codes::kInt3>>(a, stream);
    case Codes::kInt4:
      return run_gemm<F16Math<Codes::kInt4>>(a, stream);
    case Codes::kNf4:
      return run_gemm<F16Math<Codes::kNf4>>(a, stream);
    case Codes::kE2M1:
      return run_gemm<F16Math<Codes::kE2M1>>(a, stream);
    default:
      return refuse("gemm_w2_w4: codes %ld, it takes 2 to 4 bits", a.to[0].w.codes);
  }
}

}  // namespace pith::cuda
