#include "runtime/cuda_kernels/gemm/launch_gemm.cuh"

namespace pith::cuda {

Status gemm_tcq(const QuantGemm& a, Stream stream) {
  switch (a.to[0].w.format) {
    case NumberFormat::kTcq2:
      return run_gemm<F16Math<NumberFormat::kTcq2>>(a, stream);
    case NumberFormat::kTcq3:
      return run_gemm<F16Math<NumberFormat::kTcq3>>(a, stream);
    case NumberFormat::kTcq4:
      return run_gemm<F16Math<NumberFormat::kTcq4>>(a, stream);
    default:
      return refuse("gemm_tcq: format %ld, it takes trellis codes", a.to[0].w.format);
  }
}

}  // namespace pith::cuda
