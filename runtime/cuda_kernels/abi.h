// The C interface of the CUDA backend's shared object, libpith_cuda.so.
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PITH_CUDA_ABI 2

typedef struct {
  char name[128];
  int32_t major, minor;  // compute capability
  uint64_t memory_bytes;
} PithCudaDevice;

int32_t pith_cuda_abi(void);
// Fills up to `max` devices; their number, or -1 with a reason in `error`.
int32_t pith_cuda_devices(PithCudaDevice* devices, int32_t max, char* error, int32_t error_bytes);
// A pith::cuda::Ops (runtime/cuda_kernels/cuda_ops.h) of the same version, which works on the first
// device.
const void* pith_cuda_ops(void);

#ifdef __cplusplus
}
#endif
