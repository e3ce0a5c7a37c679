// Split-KV of decode attention (flash-decoding): the keys of a block, and how the partial softmaxes
// of chunks are combined.
#pragma once

#include "runtime/cuda_kernels/attention/attention.h"
#include "runtime/cuda_kernels/device/device.cuh"
#include "runtime/cuda_kernels/gemm/quantize_activations.cuh"

namespace pith::cuda {
namespace {

constexpr int kWarps = 4;
constexpr float kLowest = -3.0e38f;

// The keys [low, high) of a chunk, of `keys`, that a token sees; grid  x: tokens, y: heads by those
// of a block, z: chunks.
struct ChunkKeys {
  int64_t token, first_head;
  int32_t chunk, keys, slot, position, low, high;
};
PITH_DEVICE int32_t first_seen(const DecodeAttention& a, int32_t position) {
  const int64_t first = a.window > 0 ? position - a.window + 1 : 0;
  return first > 0 ? static_cast<int32_t>(first) : 0;
}
PITH_DEVICE ChunkKeys keys_of_chunk(const DecodeAttention& a, int heads) {
  ChunkKeys k;
  k.token = block_x();
  k.first_head = block_y() * heads;
  k.chunk = static_cast<int32_t>(block_z());
  k.slot = a.positions.slot[k.token];
  k.position = a.positions.at[k.token];
  k.keys = static_cast<int32_t>(chunk_keys(k.position + 1, a.cache.heads));
  const int32_t begin = k.chunk * k.keys, end = begin + k.keys, seen = first_seen(a, k.position);
  k.low = seen > begin ? seen : begin;
  k.high = k.position + 1 < end ? k.position + 1 : end;
  return k;
}

// out = chunks [first, first + count) of a token and some heads, combined by a block. Shared
// memory: a float a head and chunk.
PITH_DEVICE void combine_chunks(const DecodeAttention& a, int64_t t, int64_t first_head, int heads,
                                int32_t first, int32_t count) {
  const int64_t d = a.cache.head_dim, behind = chunk_floats(d);
  auto* const factors = reinterpret_cast<float*>(shared_memory());
  const auto sums_of = [&](int h) {
    return a.sums + ((t * a.heads + first_head + h) * a.chunks + first) * behind;
  };
  for (int h = warp(); h < heads; h += block_threads() / 32) {
    const float* const sums = sums_of(h);
    const float sink = a.sinks ? a.sinks[first_head + h] : kLowest;
    float top = sink, total = 0;
    for (int c = lane(); c < count; c += 32) top = larger(load_fresh(sums + c * behind + d), top);
    top = warp_reduce(top, larger);
    for (int c = lane(); c < count; c += 32) {
      const float factor = exp_of(load_fresh(sums + c * behind + d) - top);
      factors[h * count + c] = factor;
      total = fmaf(factor, load_fresh(sums + c * behind + d + 1), total);
    }
    total = warp_sum(total);
    if (a.sinks) total += exp_of(sink - top);
    for (int c = lane(); c < count; c += 32) factors[h * count + c] /= total;
  }
  sync_block();
  const int fours = static_cast<int>(d) / 4;
  for (int e = thread_index(); e < heads * fours; e += block_threads()) {
    const int h = e / fours, i = e % fours * 4;
    const float* const sums = sums_of(h) + i;
    Four sum = {};
#pragma unroll 8
    for (int c = 0; c < count; ++c) {
      const Bytes16 v = load_fresh16(sums + c * behind);
#pragma unroll
      for (int j = 0; j < 4; ++j)
        sum.v[j] = fmaf(factors[h * count + c], bits_float(v.w[j]), sum.v[j]);
    }
    store_four(a.out + (t * a.heads + first_head + h) * d, i, d, sum);
  }
}

// Converts out[t] to the activations of the next GEMM, by a block.
template <int kept, class Inputs>
PITH_DEVICE void convert_output(const Inputs& to, const DecodeAttention& a, int64_t t) {
  const int64_t n = a.heads * a.cache.head_dim;
  const float* const x = a.out + t * n;
  const auto row = row_of_block<kept>(to.stride, [&](int64_t i, int) {
    Four f = {};
    if (i >= n) return f;
    const Bytes16 v = load_fresh16(x + i);
#pragma unroll
    for (int j = 0; j < 4; ++j) f.v[j] = bits_float(v.w[j]);
    return f;
  });
  const float top = block_reduce(row.absmax(), reinterpret_cast<float*>(shared_memory()), larger);
  write_inputs(to, t, top, row);
}
template <class Inputs>
PITH_DEVICE void convert_output(const Inputs& to, const DecodeAttention& a, int64_t t) {
  constexpr int kKept = 8;
  if (to.stride <= 4 * 32 * kWarps * kKept) {
    convert_output<kKept>(to, a, t);
  } else {
    convert_output<0>(to, a, t);
  }
}

// Once the sums of a chunk are there: the last block of a head combines its chunks, the last of a
// token converts the output for the next GEMM.
PITH_DEVICE void combine_if_last(const DecodeAttention& a, const ChunkKeys& k, int heads) {
  const int32_t first = first_seen(a, k.position) / k.keys, count = k.position / k.keys - first + 1;
  int32_t* const counters = a.arrived + k.token * (a.heads + 1);
  auto* const told = reinterpret_cast<int32_t*>(shared_memory());
  if (!comes_last(counters + k.first_head, count, told)) return;
  combine_chunks(a, k.token, k.first_head, heads, first, count);
  if (a.halves.values == nullptr && a.bytes.values == nullptr) return;
  if (!comes_last(counters + a.heads, a.heads / heads, told)) return;
  if (a.halves.values != nullptr) {
    convert_output(a.halves, a, k.token);
  } else {
    convert_output(a.bytes, a, k.token);
  }
}

// Combines the partial softmaxes of the warps of a block, in shared memory as
// [warp][heads][chunk_floats(d)], in order to that of the chunk.
PITH_DEVICE void combine_warps(const DecodeAttention& a, const ChunkKeys& k, int heads) {
  const auto d = static_cast<int>(a.cache.head_dim), behind = static_cast<int>(chunk_floats(d));
  auto* const all = reinterpret_cast<float*>(shared_memory());
  sync_block();
  // Factors of the warps, behind their totals; the maximum in the place of the first warp's.
  if (thread_index() < heads) {
    const auto of_warp = [&](int w) { return all + (w * heads + thread_index()) * behind; };
    float highest = kLowest;
    for (int w = 0; w < kWarps; ++w) highest = larger(of_warp(w)[d], highest);
    for (int w = 0; w < kWarps; ++w) of_warp(w)[d + 2] = exp_of(of_warp(w)[d] - highest);
    of_warp(0)[d] = highest;
  }
  sync_block();
  float* const to = a.sums + (k.token * a.heads + k.first_head) * a.chunks * behind;
  for (int e = thread_index(); e < heads * (d + 2); e += 32 * kWarps) {
    const int h = e / (d + 2), i = e % (d + 2);
    const float* const own = all + h * behind;
    float sum = i == d ? own[d] : 0;
    if (i != d) {
      for (int w = 0; w < kWarps; ++w)
        sum = fmaf(own[w * heads * behind + d + 2], own[w * heads * behind + i], sum);
    }
    to[(h * a.chunks + k.chunk) * behind + i] = sum;
  }
  combine_if_last(a, k, heads);
}
// Shared memory of a decode block of so many heads.
inline int64_t chunk_shared_bytes(const DecodeAttention& a, int64_t heads) {
  const int64_t of_sums = kWarps * heads * chunk_floats(a.cache.head_dim),
                of_factors = heads * a.chunks;
  return 4 * (of_sums > of_factors ? of_sums : of_factors);
}

}  // namespace
}  // namespace pith::cuda
