// Keys and values into the cache, and attention over it, one query token at a time.
#include "runtime/cuda/cache_row.h"
#include "runtime/cuda/device/device.h"
#include "runtime/cuda/inputs.h"
#include "runtime/cuda/kernels.h"
#include "runtime/cuda/values.h"

namespace pith::cuda {
namespace {

// One row of head_dim numbers, by one warp.
PITH_DEVICE void write_row(const CachePlane& plane, int64_t row, int64_t d, const float* x) {
  const int64_t at = row * d;
  float scale = 1;
  if (plane.type == CacheType::kInt8 || plane.type == CacheType::kFp8) {
    float top = 0;
    for (int64_t i = lane(); i < d; i += 32) top = larger(fabsf(x[i]), top);
    top = warp_join(top, larger);
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
        static_cast<int8_t*>(plane.rows)[at + i] =
            static_cast<int8_t>(scale > 0 ? round_int8(x[i] / scale) : 0.0f);
        break;
      case CacheType::kFp8:
        static_cast<uint8_t*>(plane.rows)[at + i] = scale > 0 ? float_e4m3(x[i] / scale) : 0;
        break;
    }
  }
}

constexpr int kWarps = 4;
constexpr int kTogether = 4;  // keys whose rows are on their way at once
constexpr float kLowest = -3.0e38f;

// Pairs of a head turned by the angles of its token, by one warp.
PITH_DEVICE void turn(float* x, const float* cosines, const float* sines, int64_t half,
                      bool interleaved) {
  for (int64_t i = lane(); i < half; i += 32) {
    float* const p = x + i * (interleaved ? 2 : 1);
    const int64_t apart = interleaved ? 1 : half;
    const float first = p[0], second = p[apart];
    p[0] = first * cosines[i] - second * sines[i];
    p[apart] = second * cosines[i] + first * sines[i];
  }
  sync_warp();
}
// A head times the normalized Hadamard matrix, by one warp.
PITH_DEVICE void rotate(float* x, int64_t d) {
  int size = 1;
  while (d % (2 * size) == 0) size *= 2;
  for (int apart = 1; apart < size; apart *= 2) {
    for (int64_t i = lane(); i < d / 2; i += 32) {
      const int64_t first = i / apart * 2 * apart + i % apart;
      const float a = x[first], b = x[first + apart];
      x[first] = a + b;
      x[first + apart] = a - b;
    }
    sync_warp();
  }
  const float factor = 1.0f / sqrtf(static_cast<float>(size));
  for (int64_t i = lane(); i < d; i += 32) x[i] *= factor;
  sync_warp();
}

// A head normed, by one warp.
PITH_DEVICE void norm_head(float* x, int64_t d, const HeadNorm& norm) {
  float squares = 0;
  for (int64_t i = lane(); i < d; i += 32) squares = fmaf(x[i], x[i], squares);
  const float factor = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(d) + norm.eps);
  for (int64_t i = lane(); i < d; i += 32) x[i] = x[i] * factor * norm.weight[i];
  sync_warp();
}

// grid    x: tokens, y: heads of queries, keys and values by 4, a warp each with head_dim floats of
//         shared memory
// bound   latency: some kilobytes a token
PITH_KERNEL append_kernel(Append a) {
  wait_for_previous();
  const int64_t t = block_x(), d = a.cache.head_dim, heads = a.cache.heads;
  int64_t head = block_y() * kWarps + warp();
  enum { kQuery, kKey, kValue } what = kQuery;
  if (head >= a.query_heads) {
    head -= a.query_heads;
    what = head < heads ? kKey : kValue;
    if (what == kValue) head -= heads;
  }
  if (head >= (what == kQuery ? a.query_heads : heads)) return;
  const int64_t at = (what == kQuery ? t * a.query_heads + head : t * heads + head) * d;
  const float* const from = (what == kQuery ? a.q : what == kKey ? a.k : a.v) + at;
  float* const row = reinterpret_cast<float*>(shared_memory()) + warp() * d;
  for (int64_t i = lane(); i < d; i += 32) row[i] = from[i];
  sync_warp();
  if (what != kValue) {
    const HeadNorm& norm = what == kQuery ? a.query_norm : a.key_norm;
    if (norm.weight != nullptr) norm_head(row, d, norm);
    if (a.half > 0) turn(row, a.cosines + t * a.half, a.sines + t * a.half, a.half, a.interleaved);
    if (a.rotate) rotate(row, d);
  }
  if (what == kQuery) {
    for (int64_t i = lane(); i < d; i += 32) a.q[at + i] = row[i];
  } else {
    write_row(what == kKey ? a.cache.keys : a.cache.values,
              cache_row(a.cache, a.positions.slot[t], a.positions.at[t], head), d, row);
  }
}

// Four neighbours of a cached row: of `bytes` each as they lie, and as floats.
template <int bytes>
struct Four {
  uint32_t w[bytes];

  PITH_MEMBER void load(const void* rows, int64_t at) {
    const auto* const p = static_cast<const unsigned char*>(rows) + at * bytes;
    if constexpr (bytes == 4) {
      const Bytes16 v = load16(p);
      for (int i = 0; i < 4; ++i) w[i] = v.w[i];
    } else if constexpr (bytes == 2) {
      const Bytes8 v = load8(p);
      w[0] = v.w[0];
      w[1] = v.w[1];
    } else {
      w[0] = load4(p);
    }
  }
  PITH_MEMBER float get(CacheType type, int i) const {
    if constexpr (bytes == 4) {
      return bits_float(w[i]);
    } else if constexpr (bytes == 2) {
      const auto h = static_cast<uint16_t>(w[i / 2] >> (16 * (i % 2)));
      return type == CacheType::kF16 ? half_float(h) : bf16_float(h);
    } else {
      const auto b = static_cast<uint8_t>(w[0] >> (8 * i));
      return type == CacheType::kInt8 ? static_cast<float>(static_cast<int8_t>(b)) : e4m3_float(b);
    }
  }
};

// out = the chunks of a token and head, joined in order, by a block.
PITH_DEVICE void join_chunks(const Attend& a, int64_t t, int64_t head, int64_t first,
                             int64_t last) {
  const int64_t d = a.cache.head_dim;
  const float* const sums = a.sums + (t * a.heads + head) * a.chunks * (d + 2);
  const auto at = [&](int64_t c, int64_t i) { return load_fresh(sums + c * (d + 2) + i); };
  float top = a.sinks ? a.sinks[head] : kLowest;
  for (int64_t c = first; c <= last; ++c) top = at(c, d) > top ? at(c, d) : top;
  float total = a.sinks ? exp_of(a.sinks[head] - top) : 0;
  for (int64_t c = first; c <= last; ++c) total = fmaf(exp_of(at(c, d) - top), at(c, d + 1), total);
  for (int64_t i = thread_index(); i < d; i += block_threads()) {
    float sum = 0;
    for (int64_t c = first; c <= last; ++c) sum = fmaf(exp_of(at(c, d) - top), at(c, i), sum);
    a.out[(t * a.heads + head) * d + i] = sum / total;
  }
}

// What a product takes of out[t], by a block.
PITH_DEVICE void write_attended(const Attend& a, int64_t t) {
  const int64_t n = a.heads * a.cache.head_dim;
  const float* const x = a.out + t * n;
  const auto value = [&](int64_t i) { return load_fresh(x + i); };
  float top = 0;
  for (int64_t i = thread_index(); i < n; i += block_threads()) top = larger(fabsf(value(i)), top);
  top = block_join(top, reinterpret_cast<float*>(shared_memory()), larger);
  if (a.halves.values != nullptr) {
    write_inputs(a.halves, t, n, top, value);
  } else {
    write_inputs(a.bytes, t, n, top, value);
  }
}

// sums[t, h, chunk] = what the keys of one chunk give for token t and G heads that share a key
// head; the last to come joins them, and the last of a token goes on
//
// q       [m, heads * d] f32
// needs   heads a multiple of the cache's, G of the heads that share one; d <= 256 a multiple of 4
//                                                                         (checked by the launcher)
// sums    a key goes to warp key % 4, four keys of a warp under one maximum; scores are
//         sums over 32 lanes by butterfly, and the warps' sums are joined in order: nothing depends
//         on m or on the grid
// grid    x: tokens, y: heads / G, z: chunks; 4 warps
// bound   memory: the rows of the chunk, read once for G heads
template <int key_bytes, int value_bytes, int steps, int G>
PITH_KERNEL attend_kernel(Attend a) {
  wait_for_previous();
  const int64_t t = block_x(), first_head = block_y() * G, chunk = block_z(), d = a.cache.head_dim;
  const int64_t kv_head = first_head / (a.heads / a.cache.heads);
  const int slot = a.positions.slot[t];
  const int64_t at = a.positions.at[t], begin = chunk * kChunkKeys;
  const int64_t low = a.window > 0 && at - a.window + 1 > begin ? at - a.window + 1 : begin,
                high = at + 1 < begin + kChunkKeys ? at + 1 : begin + kChunkKeys;
  if (low >= high) return;  // none of its keys are seen
  float q[G][4 * steps];
  float top[G], total[G] = {}, sums[G][4 * steps] = {};
#pragma unroll
  for (int h = 0; h < G; ++h) {
    top[h] = kLowest;
#pragma unroll
    for (int i = 0; i < 4 * steps; ++i) {
      const int64_t column = i / 4 * 128 + 4 * lane() + i % 4;
      q[h][i] = column < d ? a.q[(t * a.heads + first_head + h) * d + column] * a.scale : 0;
    }
  }
  for (int64_t key = low + warp(); key < high; key += kWarps * kTogether) {
    Four<key_bytes> keys[kTogether][steps] = {};
    Four<value_bytes> values[kTogether][steps] = {};
    float of_key[kTogether], of_value[kTogether];
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      of_key[u] = of_value[u] = 1;
      if (key + u * kWarps >= high) continue;
      const int64_t row = cache_row(a.cache, slot, key + u * kWarps, kv_head);
#pragma unroll
      for (int s = 0; s < steps; ++s) {
        const int64_t column = 128 * s + 4 * lane();
        if (column >= d) continue;
        keys[u][s].load(a.cache.keys.rows, row * d + column);
        values[u][s].load(a.cache.values.rows, row * d + column);
      }
      if (a.cache.keys.scales) of_key[u] = a.cache.keys.scales[row];
      if (a.cache.values.scales) of_value[u] = a.cache.values.scales[row];
    }
    float scores[kTogether][G];
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
#pragma unroll
      for (int h = 0; h < G; ++h) {
        float score = 0;
#pragma unroll
        for (int i = 0; i < 4 * steps; ++i)
          score = fmaf(q[h][i], keys[u][i / 4].get(a.cache.keys.type, i % 4), score);
        score = warp_sum(score) * of_key[u];  // alike on all lanes
        if (a.cap > 0) score = capped(score, a.cap);
        scores[u][h] = key + u * kWarps < high ? score : -INFINITY;
      }
    }
#pragma unroll
    for (int h = 0; h < G; ++h) {
      float highest = top[h];
#pragma unroll
      for (int u = 0; u < kTogether; ++u) highest = fmaxf(highest, scores[u][h]);
      const float factor = exp_of(top[h] - highest);
      top[h] = highest;
      total[h] *= factor;
#pragma unroll
      for (int i = 0; i < 4 * steps; ++i) sums[h][i] *= factor;
    }
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      if (key + u * kWarps >= high) continue;
      float of[4 * steps];
#pragma unroll
      for (int i = 0; i < 4 * steps; ++i) of[i] = values[u][i / 4].get(a.cache.values.type, i % 4);
#pragma unroll
      for (int h = 0; h < G; ++h) {
        const float p = exp_of(scores[u][h] - top[h]);
        total[h] += p;
#pragma unroll
        for (int i = 0; i < 4 * steps; ++i) sums[h][i] = fmaf(p * of_value[u], of[i], sums[h][i]);
      }
    }
  }

  // Joined in the order of warps: [warp][G][d + 2]
  float* const all = reinterpret_cast<float*>(shared_memory());
#pragma unroll
  for (int h = 0; h < G; ++h) {
    float* const own = all + (warp() * G + h) * (d + 2);
#pragma unroll
    for (int i = 0; i < 4 * steps; ++i) {
      const int64_t column = i / 4 * 128 + 4 * lane() + i % 4;
      if (column < d) own[column] = sums[h][i];
    }
    if (lane() == 0) {
      own[d] = top[h];
      own[d + 1] = total[h];
    }
  }
  sync_block();
  for (int h = 0; h < G; ++h) {
    float* const to = a.sums + ((t * a.heads + first_head + h) * a.chunks + chunk) * (d + 2);
    const auto of_warp = [&](int w) { return all + (w * G + h) * (d + 2); };
    float highest = kLowest;
    for (int w = 0; w < kWarps; ++w) highest = of_warp(w)[d] > highest ? of_warp(w)[d] : highest;
    for (int64_t i = thread_index(); i < d + 2; i += 32 * kWarps) {
      float sum = 0;
      for (int w = 0; w < kWarps; ++w)
        sum = fmaf(exp_of(of_warp(w)[d] - highest), of_warp(w)[i < d ? i : d + 1], sum);
      to[i] = i == d ? highest : sum;
    }
  }
  const int64_t first =
                    a.window > 0 && at - a.window + 1 > 0 ? (at - a.window + 1) / kChunkKeys : 0,
                last = at / kChunkKeys;
  int32_t* const counters = a.arrived + t * (a.heads + 1);
  auto* const told = reinterpret_cast<int32_t*>(shared_memory());
  if (!comes_last(counters + first_head, last - first + 1, told)) return;
  for (int h = 0; h < G; ++h) join_chunks(a, t, first_head + h, first, last);
  if (a.halves.values == nullptr && a.bytes.values == nullptr) return;
  if (comes_last(counters + a.heads, a.heads / G, told)) write_attended(a, t);
}

template <int key_bytes, int value_bytes>
Status run_attend(const Attend& a, Stream stream) {
  const int64_t shared = a.heads / a.cache.heads;
  const auto run = [&](auto kernel, int64_t heads) {
    return launch(
        kernel,
        {a.positions.m, a.heads / heads, a.chunks, 32 * kWarps,
         kWarps * heads * (a.cache.head_dim + 2) * static_cast<int64_t>(sizeof(float)), true},
        stream, a);
  };
  if (a.cache.head_dim > 128) {
    if (shared % 4 == 0) return run(attend_kernel<key_bytes, value_bytes, 2, 4>, 4);
    if (shared % 2 == 0) return run(attend_kernel<key_bytes, value_bytes, 2, 2>, 2);
    return run(attend_kernel<key_bytes, value_bytes, 2, 1>, 1);
  }
  if (shared % 8 == 0) return run(attend_kernel<key_bytes, value_bytes, 1, 8>, 8);
  if (shared % 4 == 0) return run(attend_kernel<key_bytes, value_bytes, 1, 4>, 4);
  if (shared % 2 == 0) return run(attend_kernel<key_bytes, value_bytes, 1, 2>, 2);
  if (shared % 3 == 0) return run(attend_kernel<key_bytes, value_bytes, 1, 3>, 3);
  return run(attend_kernel<key_bytes, value_bytes, 1, 1>, 1);
}

int bytes_of(CacheType type) {
  return type == CacheType::kF32 ? 4 : type == CacheType::kF16 || type == CacheType::kBF16 ? 2 : 1;
}
template <int key_bytes>
Status run_attend(const Attend& a, Stream stream) {
  const int bytes = bytes_of(a.cache.values.type);
  if (bytes == 4) return run_attend<key_bytes, 4>(a, stream);
  if (bytes == 2) return run_attend<key_bytes, 2>(a, stream);
  return run_attend<key_bytes, 1>(a, stream);
}

}  // namespace

Status append(const Append& a, Stream stream) {
  Append some = a;
  if (a.half == 0 && !a.rotate && a.query_norm.weight == nullptr)
    some.query_heads = 0;  // queries stay as they are
  const int64_t rows = some.query_heads + 2 * a.cache.heads;
  return launch(append_kernel,
                {a.positions.m, (rows + kWarps - 1) / kWarps, 1, 32 * kWarps,
                 kWarps * a.cache.head_dim * static_cast<int64_t>(sizeof(float)), true},
                stream, some);
}

Status attend(const Attend& a, Stream stream) {
  const int64_t d = a.cache.head_dim;
  if (d < 4 || d > 256 || d % 4 != 0) return "attention: heads of a size that it does not take";
  if (a.heads % a.cache.heads != 0) return "attention: heads that do not share key heads evenly";
  const int bytes = bytes_of(a.cache.keys.type);
  if (bytes == 4) return run_attend<4>(a, stream);
  if (bytes == 2) return run_attend<2>(a, stream);
  return run_attend<1>(a, stream);
}

}  // namespace pith::cuda
