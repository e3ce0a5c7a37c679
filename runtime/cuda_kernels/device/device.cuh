// The few words that kernels are written in, with two meanings: the GPU's (cuda.cuh), and an
// emulation on the processor (emulated.h), where every CUDA thread is a fibre, so that the same
// text is tested where there is no GPU.
//
// A kernel is a function marked PITH_KERNEL; launch() runs it. Conditions of CUDA hold in both: all
// threads of a block meet at sync_block(), all lanes of a warp at shuffles, mma and sync_warp().
// Arithmetic is that of IEEE f32, nothing is contracted (fmaf where it is meant), so that both give
// the same bits but for sums inside of mma.
#pragma once

#include <stdint.h>

namespace pith::cuda {

using Stream = void*;

// Blocks of a grid and threads of a block (a multiple of 32), bytes of shared memory of a block.
struct Grid {
  int64_t x = 1, y = 1, z = 1;
  int threads = 32;
  int64_t shared_bytes = 0;
  // The kernel may begin while the one before it still runs: all its threads call
  // wait_for_previous() before they touch what others write.
  bool early = false;
};

struct alignas(16) Bytes16 {
  uint32_t w[4];
};
struct alignas(8) Bytes8 {
  uint32_t w[2];
};

}  // namespace pith::cuda

#ifdef __CUDACC__
#include "runtime/cuda_kernels/device/cuda.cuh"
#else
#include "runtime/cuda_kernels/device/emulated.h"
#endif

namespace pith::cuda {

PITH_DEVICE int lane() { return thread_index() % 32; }
PITH_DEVICE int warp() { return thread_index() / 32; }

// join() of the lanes of a warp, on every lane, always in the same order.
template <class Join>
PITH_DEVICE float warp_reduce(float v, Join join) {
  for (int by = 16; by > 0; by /= 2) v = join(v, shuffle_xor(v, by));
  return v;
}
PITH_DEVICE float add(float a, float b) { return a + b; }
PITH_DEVICE float warp_sum(float v) { return warp_reduce(v, add); }

// The same over a block, of numbers that 0 does not change; `workspace`: 32 floats of shared memory.
// Every thread gets the result.
template <class Join>
PITH_DEVICE float block_reduce(float v, float* workspace, Join join) {
  v = warp_reduce(v, join);
  sync_block();
  if (lane() == 0) workspace[warp()] = v;
  sync_block();
  return warp_reduce(lane() < block_threads() / 32 ? workspace[lane()] : 0.0f, join);
}

// Whether this block is the last of `count` that come to a counter, which is then 0 again; what the
// others wrote before is seen from here on by load_fresh(). `told`: shared memory of the block.
PITH_DEVICE bool comes_last(int32_t* counter, int64_t count, int32_t* told) {
  fence_device();
  sync_block();
  if (thread_index() == 0) {
    *told = fetch_add(counter, 1) == static_cast<int32_t>(count - 1);
    if (*told != 0) *counter = 0;
  }
  sync_block();
  const bool last = *told != 0;
  sync_block();  // before it is used again
  if (last) fence_device();
  return last;
}

PITH_DEVICE float bits_float(uint32_t bits) {
  union {
    uint32_t u;
    float f;
  } both;
  both.u = bits;
  return both.f;
}
PITH_DEVICE uint32_t float_bits(float v) {
  union {
    float f;
    uint32_t u;
  } both;
  both.f = v;
  return both.u;
}
PITH_DEVICE uint32_t half_pair(float low, float high) {
  return static_cast<uint32_t>(float_half(high)) << 16 | float_half(low);
}
PITH_DEVICE float bf16_float(uint16_t h) { return bits_float(static_cast<uint32_t>(h) << 16); }

// e^x within 2 ulp where that is normal, NaN of NaN; range reduction by ln 2 in two parts, a
// polynomial of degree 6: the bits of the CPU's kernels.
PITH_DEVICE float exp_of(float x) {
  x = x > 88.3f ? 88.3f : x;
  x = x < -87.3f ? -87.3f : x;
  const float n = rintf(x * 1.44269504088896f);
  float r = fmaf(n, -0.693359375f, x);
  r = fmaf(n, 2.12194440e-4f, r);
  float p = 1.0f / 720;
  p = fmaf(p, r, 1.0f / 120);
  p = fmaf(p, r, 1.0f / 24);
  p = fmaf(p, r, 1.0f / 6);
  p = fmaf(p, r, 0.5f);
  p = fmaf(p, r, 1.0f);
  p = fmaf(p, r, 1.0f);
  return p * bits_float(static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23);
}

}  // namespace pith::cuda
