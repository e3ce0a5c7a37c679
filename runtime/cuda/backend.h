// The CUDA backend, libpith_cuda.so beside the program, opened when it is first asked for.
#pragma once

#include <string>
#include <vector>

#include "runtime/cuda_kernels/abi.h"
#include "runtime/cuda_kernels/cuda_ops.h"

namespace pith {

struct CudaBackend {
  const cuda::Ops* ops = nullptr;  // null where there is no device
  std::vector<PithCudaDevice> devices;
  std::string note;  // why there is none
};

const CudaBackend& cuda_backend();

}  // namespace pith
