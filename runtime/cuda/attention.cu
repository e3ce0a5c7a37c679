// Keys and values into the cache, and attention over it, one query token at a time.
#include "runtime/cuda/device/device.h"
#include "runtime/cuda/kernels.h"
#include "runtime/cuda/values.h"

namespace pith::cuda {
namespace {

PITH_DEVICE int64_t cache_row(const Cache& c, int slot, int64_t position, int64_t head) {
  const int64_t page = c.pages[slot * c.pages_per_slot + position / kPageTokens];
  return (page * c.heads + head) * kPageTokens + position % kPageTokens;
}

template <CacheType type>
PITH_DEVICE float cached(const void* rows, int64_t at) {
  if constexpr (type == CacheType::kF32) return static_cast<const float*>(rows)[at];
  if constexpr (type == CacheType::kF16) return half_float(static_cast<const uint16_t*>(rows)[at]);
  if constexpr (type == CacheType::kBF16) return bf16_float(static_cast<const uint16_t*>(rows)[at]);
  if constexpr (type == CacheType::kInt8)
    return static_cast<float>(static_cast<const int8_t*>(rows)[at]);
  return e4m3_float(static_cast<const uint8_t*>(rows)[at]);
}

// One row of head_dim numbers, by one warp.
PITH_DEVICE void write_row(const CachePlane& plane, int64_t row, int64_t d, const float* x) {
  const int64_t at = row * d;
  float scale = 1;
  if (plane.type == CacheType::kInt8 || plane.type == CacheType::kFp8) {
    float top = 0;
    for (int64_t i = lane(); i < d; i += 32) top = larger(fabsf(x[i]), top);
    for (int by = 16; by > 0; by /= 2) top = larger(top, shuffle_xor(top, by));
    scale = code_scale(top, plane.type == CacheType::kInt8 ? 127.0f : 448.0f);
    if (lane() == 0) plane.scales[row] = scale;
  }
  for (int64_t i = lane(); i < d; i += 32) {
    switch (plane.type) {
      case CacheType::kF32:
        static_cast<float*>(plane.rows)[at + i] = x[i];
        break;
      case CacheType::kF16:
        static_cast<uint16_t*>(plane.rows)[at + i] = float_half(x[i]);
        break;
      case CacheType::kBF16:
        static_cast<uint16_t*>(plane.rows)[at + i] = float_bf16(x[i]);
        break;
      case CacheType::kInt8:
        static_cast<int8_t*>(plane.rows)[at + i] = static_cast<int8_t>(
            scale > 0 ? rintf(fmaxf(-127.0f, fminf(127.0f, x[i] / scale))) : 0.0f);
        break;
      case CacheType::kFp8:
        static_cast<uint8_t*>(plane.rows)[at + i] = scale > 0 ? float_e4m3(x[i] / scale) : 0;
        break;
    }
  }
}

// grid  x: tokens, y: heads of the cache; a warp for the key, one for the value
PITH_KERNEL append_kernel(Append a) {
  const int64_t t = block_x(), head = block_y(), d = a.cache.head_dim;
  const int64_t row = cache_row(a.cache, a.positions.slot[t], a.positions.at[t], head);
  const int64_t at = (t * a.cache.heads + head) * d;
  if (warp() == 0) {
    write_row(a.cache.keys, row, d, a.k + at);
  } else {
    write_row(a.cache.values, row, d, a.v + at);
  }
}

constexpr int kWarps = 4;
constexpr float kLowest = -3.0e38f;

// What one warp knows of one head: the largest score, the sum of exp(score - top), and of values
// times that, four numbers of head_dim a lane and step of 128.
template <int steps>
struct Sums {
  float top = kLowest, total = 0;
  float values[4 * steps] = {};

  PITH_MEMBER void rescale(float to) {
    const float factor = exp_of(top - to);
    top = to;
    total *= factor;
#pragma unroll
    for (int i = 0; i < 4 * steps; ++i) values[i] *= factor;
  }
};

// sums[t, h, chunk] = what the keys of one chunk give for token t and head h
//
// q       [m, heads * d] f32
// needs   heads a multiple of the cache's; d <= 256 a multiple of 4       (checked by the launcher)
// sums    a key goes to warp key % 4; scores are sums over 32 lanes by butterfly, keys of a warp
// follow
//         each other, and the warps' sums are joined in order: nothing depends on m or on the grid
// grid    x: tokens, y: heads, z: chunks; 4 warps
// bound   memory: the rows of the chunk. Heads that share a key head read it once each, all but the
//         first from the L2 cache.
template <CacheType key_type, CacheType value_type, int steps>
PITH_KERNEL attend_kernel(Attend a) {
  const int64_t t = block_x(), head = block_y(), chunk = block_z(), d = a.cache.head_dim;
  const int64_t kv_head = head / (a.heads / a.cache.heads);
  const int slot = a.positions.slot[t];
  const int64_t at = a.positions.at[t];
  const int64_t low = a.window > 0 && at - a.window + 1 > chunk * kChunkKeys ? at - a.window + 1
                                                                             : chunk * kChunkKeys,
                high = at + 1 < (chunk + 1) * kChunkKeys ? at + 1 : (chunk + 1) * kChunkKeys;
  float q[4 * steps];
#pragma unroll
  for (int i = 0; i < 4 * steps; ++i) {
    const int64_t column = i / 4 * 128 + 4 * lane() + i % 4;
    q[i] = column < d ? a.q[(t * a.heads + head) * d + column] * a.scale : 0;
  }
  Sums<steps> mine;
  for (int64_t key = low + warp(); key < high; key += kWarps) {
    const int64_t row = cache_row(a.cache, slot, key, kv_head);
    float score = 0;
#pragma unroll
    for (int i = 0; i < 4 * steps; ++i) {
      const int64_t column = i / 4 * 128 + 4 * lane() + i % 4;
      if (column < d)
        score = fmaf(q[i], cached<key_type>(a.cache.keys.rows, row * d + column), score);
    }
    score = warp_sum(score);
    if (a.cache.keys.scales) score *= a.cache.keys.scales[row];
    if (score > mine.top) mine.rescale(score);
    float p = exp_of(score - mine.top);
    mine.total += p;
    if (a.cache.values.scales) p *= a.cache.values.scales[row];
#pragma unroll
    for (int i = 0; i < 4 * steps; ++i) {
      const int64_t column = i / 4 * 128 + 4 * lane() + i % 4;
      if (column < d)
        mine.values[i] =
            fmaf(p, cached<value_type>(a.cache.values.rows, row * d + column), mine.values[i]);
    }
  }

  // Joined in the order of warps: [warp][d + 2]
  float* const all = reinterpret_cast<float*>(shared_memory());
  float* const own = all + warp() * (d + 2);
#pragma unroll
  for (int i = 0; i < 4 * steps; ++i) {
    const int64_t column = i / 4 * 128 + 4 * lane() + i % 4;
    if (column < d) own[column] = mine.values[i];
  }
  if (lane() == 0) {
    own[d] = mine.top;
    own[d + 1] = mine.total;
  }
  sync_block();
  float* const to = a.sums + ((t * a.heads + head) * a.chunks + chunk) * (d + 2);
  float top = kLowest;
  for (int w = 0; w < kWarps; ++w) top = all[w * (d + 2) + d] > top ? all[w * (d + 2) + d] : top;
  for (int64_t i = thread_index(); i < d + 2; i += 32 * kWarps) {
    float sum = 0;
    for (int w = 0; w < kWarps; ++w) {
      const float* const of = all + w * (d + 2);
      sum = fmaf(exp_of(of[d] - top), i < d ? of[i] : of[d + 1], sum);
    }
    to[i == d + 1 ? d + 1 : i] = i == d ? top : sum;
  }
}

// out = the chunks of a token and head, joined in order
// grid  x: tokens, y: heads; 4 warps
PITH_KERNEL join_kernel(Attend a) {
  const int64_t t = block_x(), head = block_y(), d = a.cache.head_dim;
  const int64_t at = a.positions.at[t];
  const int64_t first =
                    a.window > 0 && at - a.window + 1 > 0 ? (at - a.window + 1) / kChunkKeys : 0,
                last = at / kChunkKeys;
  const float* const sums = a.sums + (t * a.heads + head) * a.chunks * (d + 2);
  float top = kLowest;
  for (int64_t c = first; c <= last; ++c)
    top = sums[c * (d + 2) + d] > top ? sums[c * (d + 2) + d] : top;
  float total = 0;
  for (int64_t c = first; c <= last; ++c) {
    const float* const of = sums + c * (d + 2);
    total = fmaf(exp_of(of[d] - top), of[d + 1], total);
  }
  for (int64_t i = thread_index(); i < d; i += 32 * kWarps) {
    float sum = 0;
    for (int64_t c = first; c <= last; ++c) {
      const float* const of = sums + c * (d + 2);
      sum = fmaf(exp_of(of[d] - top), of[i], sum);
    }
    a.out[(t * a.heads + head) * d + i] = sum / total;
  }
}

template <CacheType k, CacheType v>
Status run_attend(const Attend& a, Stream stream) {
  const Grid grid{a.positions.m, a.heads, a.chunks, 32 * kWarps,
                  kWarps * (a.cache.head_dim + 2) * static_cast<int64_t>(sizeof(float))};
  const Status bad = a.cache.head_dim <= 128 ? launch(attend_kernel<k, v, 1>, grid, stream, a)
                                             : launch(attend_kernel<k, v, 2>, grid, stream, a);
  if (bad) return bad;
  return launch(join_kernel, {a.positions.m, a.heads, 1, 32 * kWarps}, stream, a);
}
template <CacheType k>
Status run_attend(const Attend& a, Stream stream) {
  switch (a.cache.values.type) {
    case CacheType::kF32:
      return run_attend<k, CacheType::kF32>(a, stream);
    case CacheType::kF16:
      return run_attend<k, CacheType::kF16>(a, stream);
    case CacheType::kBF16:
      return run_attend<k, CacheType::kBF16>(a, stream);
    case CacheType::kInt8:
      return run_attend<k, CacheType::kInt8>(a, stream);
    default:
      return run_attend<k, CacheType::kFp8>(a, stream);
  }
}

}  // namespace

Status append(const Append& a, Stream stream) {
  return launch(append_kernel, {a.positions.m, a.cache.heads, 1, 64}, stream, a);
}

Status attend(const Attend& a, Stream stream) {
  if (a.cache.head_dim < 4 || a.cache.head_dim > 256) return "attention: heads of more than 256";
  if (a.heads % a.cache.heads != 0) return "attention: heads that do not share key heads evenly";
  switch (a.cache.keys.type) {
    case CacheType::kF32:
      return run_attend<CacheType::kF32>(a, stream);
    case CacheType::kF16:
      return run_attend<CacheType::kF16>(a, stream);
    case CacheType::kBF16:
      return run_attend<CacheType::kBF16>(a, stream);
    case CacheType::kInt8:
      return run_attend<CacheType::kInt8>(a, stream);
    default:
      return run_attend<CacheType::kFp8>(a, stream);
  }
}

}  // namespace pith::cuda
