// Products of f16 by cuBLAS, which is opened when it is first asked for: it is larger than all else
// together, and what it does the kernels can do as well, slower for many tokens.
#include <cublas_v2.h>
#include <dlfcn.h>

#include "runtime/cuda/memory.h"

namespace pith::cuda {
namespace {

// cublas_v2.h has overloads of it.
using GemmEx = cublasStatus_t (*)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int,
                                  int, const void*, const void*, cudaDataType, int, const void*,
                                  cudaDataType, int, const void*, void*, cudaDataType, int,
                                  cublasComputeType_t, cublasGemmAlgo_t);

struct Cublas {
  cublasHandle_t handle = nullptr;
  decltype(&cublasSetStream_v2) set_stream = nullptr;
  GemmEx gemm = nullptr;
};

Cublas open_cublas() {
  Cublas to;
  void* const library = ::dlopen("libcublas.so.13", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return to;
  const auto create =
      reinterpret_cast<decltype(&cublasCreate_v2)>(::dlsym(library, "cublasCreate_v2"));
  to.set_stream =
      reinterpret_cast<decltype(&cublasSetStream_v2)>(::dlsym(library, "cublasSetStream_v2"));
  to.gemm = reinterpret_cast<GemmEx>(::dlsym(library, "cublasGemmEx"));
  if (create == nullptr || to.set_stream == nullptr || to.gemm == nullptr ||
      create(&to.handle) != CUBLAS_STATUS_SUCCESS) {
    to.handle = nullptr;
  }
  return to;
}
Cublas& cublas() {
  static Cublas opened = open_cublas();
  return opened;
}

}  // namespace

bool has_half_product() { return cublas().handle != nullptr; }

// Column-major, as cuBLAS has it: y^T [n, m] = w [k, n]^T x^T [k, m].
Status half_product(const HalfProduct& a, Stream stream) {
  Cublas& c = cublas();
  const float one = 1, zero = 0;
  const auto n = static_cast<int>(a.n), m = static_cast<int>(a.x.m),
             k = static_cast<int>(a.x.stride);
  if (c.set_stream(c.handle, static_cast<cudaStream_t>(stream)) != CUBLAS_STATUS_SUCCESS)
    return "cuBLAS takes no stream";
  const cublasStatus_t status =
      c.gemm(c.handle, CUBLAS_OP_T, CUBLAS_OP_N, n, m, k, &one, a.w, CUDA_R_16F, k, a.x.values,
             CUDA_R_16F, k, &zero, a.y, CUDA_R_32F, n, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
  return status == CUBLAS_STATUS_SUCCESS ? nullptr : "cuBLAS cannot multiply these";
}

}  // namespace pith::cuda
