// The words of device.cuh on a GPU.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define PITH_KERNEL static __global__ void
// Behind PITH_KERNEL: as few registers as let so many blocks of so many threads share a processor.
#define PITH_BLOCKS(threads, blocks) __launch_bounds__(threads, blocks)
#define PITH_DEVICE static __device__ __forceinline__
#define PITH_MEMBER __device__ __forceinline__
#define PITH_CONSTANT static __device__ const

namespace pith::cuda {

PITH_DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
PITH_DEVICE int block_threads() { return static_cast<int>(blockDim.x); }
PITH_DEVICE int64_t block_x() { return blockIdx.x; }
PITH_DEVICE int64_t block_y() { return blockIdx.y; }
PITH_DEVICE int64_t block_z() { return blockIdx.z; }
PITH_DEVICE int64_t grid_x() { return gridDim.x; }

// The block's shared memory, aligned to 16 bytes.
PITH_DEVICE unsigned char* shared_memory() {
  extern __shared__ __align__(16) unsigned char pith_shared[];
  return pith_shared;
}

// For kernels with Grid::early: returns when the kernel before this one has ended, and lets the
// next begin.
PITH_DEVICE void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" : : : "memory");
  asm volatile("griddepcontrol.launch_dependents;" : : : "memory");
#endif
}
PITH_DEVICE void sync_block() { __syncthreads(); }
PITH_DEVICE void sync_warp() { __syncwarp(); }
PITH_DEVICE float shuffle_xor(float v, int mask) { return __shfl_xor_sync(~0u, v, mask); }
PITH_DEVICE float shuffle(float v, int from) { return __shfl_sync(~0u, v, from); }
PITH_DEVICE uint32_t shuffle(uint32_t v, int from) { return __shfl_sync(~0u, v, from); }

// Read once: not kept in the caches.
PITH_DEVICE Bytes16 load_once16(const void* p) {
  Bytes16 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.w[0]), "=r"(v.w[1]), "=r"(v.w[2]), "=r"(v.w[3])
               : "l"(p));
  return v;
}
PITH_DEVICE Bytes8 load_once8(const void* p) {
  Bytes8 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v2.u32 {%0,%1}, [%2];"
               : "=r"(v.w[0]), "=r"(v.w[1])
               : "l"(p));
  return v;
}
PITH_DEVICE uint32_t load2(const void* p) { return *static_cast<const uint16_t*>(p); }
PITH_DEVICE uint32_t load4(const void* p) { return *static_cast<const uint32_t*>(p); }
PITH_DEVICE Bytes16 load16(const void* p) { return *static_cast<const Bytes16*>(p); }
PITH_DEVICE Bytes8 load8(const void* p) { return *static_cast<const Bytes8*>(p); }
PITH_DEVICE void store4(void* p, uint32_t v) { *static_cast<uint32_t*>(p) = v; }
PITH_DEVICE void store8(void* p, Bytes8 v) { *static_cast<Bytes8*>(p) = v; }
PITH_DEVICE void store16(void* p, Bytes16 v) { *static_cast<Bytes16*>(p) = v; }

// 16 bytes to shared memory in the background; 0 where not `valid`. Copies since the last commit
// are a group; wait_copies<n>() waits for all but the latest n groups of this thread.
PITH_DEVICE void copy_async16(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(shared))), "l"(global),
                 "r"(valid ? 16 : 0)
               : "memory");
}
PITH_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" : : : "memory"); }
template <int n>
PITH_DEVICE void wait_copies() {
  asm volatile("cp.async.wait_group %0;" : : "n"(n) : "memory");
}

// Adds to a number that other blocks add to; what it was before.
PITH_DEVICE int32_t fetch_add(int32_t* p, int32_t v) { return atomicAdd(p, v); }
// What this thread wrote before is seen by whoever sees what it writes after.
PITH_DEVICE void fence_device() { __threadfence(); }
// What other blocks wrote, past caches that may hold what was there before.
template <class T>
PITH_DEVICE T load_fresh(const T* p) {
  return __ldcg(p);
}
PITH_DEVICE Bytes16 load_fresh16(const void* p) {
  const uint4 v = __ldcg(static_cast<const uint4*>(p));
  return {{v.x, v.y, v.z, v.w}};
}

PITH_DEVICE float half_float(uint16_t h) { return __half2float(__ushort_as_half(h)); }
PITH_DEVICE uint16_t float_half(float v) { return __half_as_ushort(__float2half_rn(v)); }
// a b + c of pairs of f16, rounded once.
PITH_DEVICE uint32_t half2_fma(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
// (a & mask) | b, as one instruction.
PITH_DEVICE uint32_t and_or(uint32_t a, uint32_t mask, uint32_t b) {
  uint32_t d;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(d) : "r"(a), "r"(mask), "r"(b));
  return d;
}

// About 2^x, within 2 ulp; 0 of -infinity.
PITH_DEVICE float exp2_about(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// About 1 / x, within 1 ulp; 0 of infinity.
PITH_DEVICE float reciprocal_about(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Four matrices of 8 x 8 f16 from shared memory: lane i names row i % 8 of matrix i / 8; lane 4 g +
// t gets of matrix j in to[j] the elements [g, 2t] and [g, 2t+1].
PITH_DEVICE void load_matrices(uint32_t* to, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}
// The same transposed: lane i names row i % 8 of matrix i /
// 8; lane 4 g + t gets of matrix j in to[j] the elements [2t, g] and [2t + 1, g].
PITH_DEVICE void load_transposed(uint32_t* to, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}

// d[16, 8] += a[16, 16] b[16, 8] of f16 in f32. Lane 4 g + t has a = {[g, 2t], [g + 8, 2t],
// [g, 2t + 8], [g + 8, 2t + 8]} and the column behind each, b = {[2t, g], [2t + 8, g]} and the row
// behind each, d = {[g, 2t], [g, 2t + 1], [g + 8, 2t], [g + 8, 2t + 1]}.
PITH_DEVICE void mma_f16(float* d, const uint32_t* a, const uint32_t* b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// The same of bf16.
PITH_DEVICE void mma_bf16(float* d, const uint32_t* a, const uint32_t* b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// d[16, 8] += a[16, 32] b[32, 8] of int8 in int32. Lane 4 g + t has a = {[g, 4t], [g + 8, 4t],
// [g, 4t + 16], [g + 8, 4t + 16]} and the three columns behind each, b = {[4t, g], [4t + 16, g]}
// and the three rows behind each, d as above.
PITH_DEVICE void mma_s8(int32_t* d, const uint32_t* a, const uint32_t* b) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// The bytes of a (0 to 3) and b (4 to 7) that the four hexadecimal digits name, the last digit the
// lowest byte.
PITH_DEVICE uint32_t select_bytes(uint32_t a, uint32_t b, uint32_t digits) {
  return __byte_perm(a, b, digits);
}

// sum + those of the bytes of v
PITH_DEVICE uint32_t add_bytes(uint32_t v, uint32_t sum) { return __dp4a(v, 0x01010101u, sum); }
// Bits [shift, shift + 32) of high:low, shift < 32.
PITH_DEVICE uint32_t funnel_shift(uint32_t low, uint32_t high, int shift) {
  return __funnelshift_r(low, high, shift);
}

// Whether kernels begin early (programmatic dependent launch): on devices that can, where the
// environment has PITH_CUDA_OVERLAP=1.
bool launches_overlap();

template <class... Parameters, class... Arguments>
inline const char* launch(void (*kernel)(Parameters...), const Grid& grid, Stream stream,
                          Arguments... arguments) {
  if (grid.x <= 0 || grid.y <= 0 || grid.z <= 0) return nullptr;
  if (grid.shared_bytes > 48 * 1024) {
    const cudaError_t status = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                    cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                    static_cast<int>(grid.shared_bytes));
    if (status != cudaSuccess) return cudaGetErrorString(status);
  }
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y),
                        static_cast<unsigned>(grid.z));
  config.blockDim = dim3(static_cast<unsigned>(grid.threads));
  config.dynamicSmemBytes = static_cast<size_t>(grid.shared_bytes);
  config.stream = static_cast<cudaStream_t>(stream);
  config.attrs = &early;
  config.numAttrs = grid.early && launches_overlap() ? 1 : 0;
  const cudaError_t status = cudaLaunchKernelEx(&config, kernel, arguments...);
  return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}

}  // namespace pith::cuda
