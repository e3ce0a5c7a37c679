// Launches the quantized GEMV for up to 8 tokens and the quantized GEMM for more.
#pragma once

#include "runtime/cuda_kernels/gemm/gemm.cuh"
#include "runtime/cuda_kernels/gemm/gemv.cuh"
#include "runtime/cuda_kernels/launchers.h"

namespace pith::cuda {
namespace {

template <class Math>
Status run_gemm(const typename Math::Args& a, Stream stream) {
  return a.plan.tokens == 8 ? run_gemv<Math>(a, stream) : run_gemm_blocks<Math>(a, stream);
}

}  // namespace

}  // namespace pith::cuda
