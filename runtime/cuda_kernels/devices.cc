#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>

#include "runtime/cuda_kernels/abi.h"
#include "runtime/cuda_kernels/ops_table.h"

int32_t pith_cuda_abi() { return PITH_CUDA_ABI; }

const void* pith_cuda_ops() { return &pith::cuda::ops_table(); }

int32_t pith_cuda_devices(PithCudaDevice* devices, int32_t max, char* error, int32_t error_bytes) {
  int count = 0;
  cudaError_t status = cudaGetDeviceCount(&count);
  for (int i = 0; status == cudaSuccess && i < std::min(count, max); ++i) {
    cudaDeviceProp p;
    status = cudaGetDeviceProperties(&p, i);
    if (status != cudaSuccess) break;
    std::snprintf(devices[i].name, sizeof(devices[i].name), "%.127s", p.name);
    devices[i].major = p.major;
    devices[i].minor = p.minor;
    devices[i].memory_bytes = p.totalGlobalMem;
  }
  if (status == cudaSuccess) return std::min(count, max);
  std::snprintf(error, static_cast<size_t>(error_bytes), "%s", cudaGetErrorString(status));
  return -1;
}
