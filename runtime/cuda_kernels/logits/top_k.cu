// Top-k of logits.
#include "runtime/cuda_kernels/device/device.cuh"
#include "runtime/cuda_kernels/launchers.h"
#include "runtime/cuda_kernels/refuse.h"

namespace pith::cuda {
namespace {

constexpr int kThreads = 256;

PITH_DEVICE uint64_t key_of(float v, int64_t at) {
  const uint32_t bits = v == 0 ? 0 : float_bits(v);  // one zero
  const uint32_t ordered = v != v ? 0xffffffffu : (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(ordered) << 32 | static_cast<uint32_t>(~static_cast<uint32_t>(at));
}

// The k largest of every 2048 keys, or numbers where `x` is there, largest first.
//
// from    keys [count], or x [count]; what is missing in the last chunk is 0, below every key
// to      [blocks, k]
// grid    x: chunks; a bitonic sort of kTopChunk keys in 16 KiB of shared memory
// bound   latency of some 66 barriers
struct TopPass {
  const float* x;
  const uint64_t* from;
  int64_t count;
  int32_t k;
  uint64_t* to;
};
PITH_KERNEL top_kernel(TopPass a) {
  wait_for_previous();
  auto* const keys = reinterpret_cast<uint64_t*>(shared_memory());
  constexpr int kCount = static_cast<int>(kTopChunk);
  for (int i = thread_index(); i < kCount; i += kThreads) {
    const int64_t at = block_x() * kCount + i;
    keys[i] = at >= a.count ? 0 : a.x ? key_of(a.x[at], at) : a.from[at];
  }
  for (int run = 2; run <= kCount; run *= 2) {
    for (int apart = run / 2; apart > 0; apart /= 2) {
      sync_block();
      for (int pair = thread_index(); pair < kCount / 2; pair += kThreads) {
        const int i = pair / apart * 2 * apart + pair % apart;
        const bool falls = (i & run) == 0;  // of the runs that are being made, every other
        const uint64_t one = keys[i], other = keys[i + apart];
        if ((one < other) != falls) continue;
        keys[i] = other;
        keys[i + apart] = one;
      }
    }
  }
  sync_block();
  for (int i = thread_index(); i < a.k; i += kThreads) a.to[block_x() * a.k + i] = keys[i];
}

}  // namespace

Status top(const Top& a, Stream stream) {
  if (a.k < 1 || a.k > kMaxTop || a.k > a.n || a.n >= INT32_MAX)
    return refuse("top: %ld of %ld logits, it takes %ld", a.k, a.n, kMaxTop);
  const auto chunks = [](int64_t n) { return (n + kTopChunk - 1) / kTopChunk; };
  uint64_t* const halves[] = {a.workspace, a.workspace + chunks(a.n) * a.k};
  TopPass pass{a.x, nullptr, a.n, a.k, nullptr};
  for (int i = 0;; ++i) {
    const int64_t blocks = chunks(pass.count);
    pass.to = blocks == 1 ? a.to : halves[i % 2];
    const Grid grid{blocks, 1, 1, kThreads, kTopChunk * static_cast<int64_t>(sizeof(uint64_t)),
                    true};
    if (const Status bad = launch(top_kernel, grid, stream, pass)) return bad;
    if (blocks == 1) return nullptr;
    pass = {nullptr, pass.to, blocks * a.k, a.k, nullptr};
  }
}

}  // namespace pith::cuda
