// Writes to the KV cache (norm, RoPE, Hadamard), and decode attention for one token and head at a
// time, on plain cores.
#include "runtime/cuda_kernels/attention/kv_page.cuh"
#include "runtime/cuda_kernels/attention/split_kv.cuh"
#include "runtime/cuda_kernels/device/device.cuh"
#include "runtime/cuda_kernels/gemm/convert.cuh"
#include "runtime/cuda_kernels/launchers.h"
#include "runtime/cuda_kernels/refuse.h"

namespace pith::cuda {
namespace {

// One row of head_dim numbers, by one warp.
PITH_DEVICE void write_row(const CachePlane& plane, int64_t row, int64_t d, const float* x) {
  const int64_t at = row * d;
  float scale = 1;
  if (has_row_scale(plane.type)) {
    float top = 0;
    for (int64_t i = lane(); i < d; i += 32) top = larger(fabsf(x[i]), top);
    top = warp_reduce(top, larger);
    scale = code_scale(top, plane.type == NumberFormat::kInt8 ? 127.0f : 448.0f);
    if (lane() == 0) plane.scales[row] = scale;
  }
  for (int64_t i = lane(); i < d; i += 32) {
    switch (plane.type) {
      case NumberFormat::kF32:
        static_cast<float*>(plane.rows)[at + i] = x[i];
        break;
      case NumberFormat::kF16:
        static_cast<uint16_t*>(plane.rows)[at + i] = float_half(x[i]);
        break;
      case NumberFormat::kBF16:
        static_cast<uint16_t*>(plane.rows)[at + i] = float_bf16(x[i]);
        break;
      case NumberFormat::kInt8:
        static_cast<int8_t*>(plane.rows)[at + i] =
            static_cast<int8_t>(scale > 0 ? round_int8(x[i] / scale) : 0.0f);
        break;
      default:  // kE4M3
        static_cast<uint8_t*>(plane.rows)[at + i] = scale > 0 ? float_e4m3(x[i] / scale) : 0;
        break;
    }
  }
}

constexpr int kTogether = 4;  // keys whose rows are on their way at once

// Rotates pairs of a head by the angles of its token, by one warp.
PITH_DEVICE void apply_rope(float* x, const float* cosines, const float* sines, int64_t half,
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
  const auto n = static_cast<int>(d), size = n & -n;  // the power of two in d
  for (int apart = 1; apart < size; apart *= 2) {
    for (int i = lane(); i < n / 2; i += 32) {
      const int first = ((i & -apart) << 1) + (i & (apart - 1));
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

// RMS norm of a head, by one warp.
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
PITH_KERNEL write_kv_kernel(WriteKv a) {
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
  if (what == kValue && is_latent(a.cache)) return;
  // Where a key or value goes is long in coming: it is asked for first.
  const int64_t to =
      what == kQuery ? 0 : cache_row(a.cache, a.positions.slot[t], a.positions.at[t], head);
  const int64_t at = (what == kQuery ? t * a.query_heads + head : t * heads + head) * d;
  const float* const from = (what == kQuery ? a.q : what == kKey ? a.k : a.v) + at;
  float* const row = reinterpret_cast<float*>(shared_memory()) + warp() * d;
  for (int64_t i = lane(); i < d; i += 32) row[i] = from[i];
  sync_warp();
  if (what != kValue) {
    const HeadNorm& norm = what == kQuery ? a.query_norm : a.key_norm;
    if (norm.weight != nullptr) norm_head(row, d, norm);
    if (a.half > 0)
      apply_rope(row, a.cosines + t * a.half, a.sines + t * a.half, a.half, a.interleaved);
    if (a.rotate) rotate(row, d);
  }
  if (what == kQuery) {
    for (int64_t i = lane(); i < d; i += 32) a.q[at + i] = row[i];
  } else {
    write_row(what == kKey ? a.cache.keys : a.cache.values, to, d, row);
  }
}

// query[t, h] = RoPE(q_rope[t, h]); key[t] = [RoPE(k_rope of kv[t]), norm(latent of kv[t])]
//
// norm    no weight: the vector is as it is
// grid    x: tokens, y: heads of queries and the key by 4, a warp each, with head_dim floats of
//         shared memory
// bound   latency: some kilobytes a token
PITH_KERNEL write_latent_kv_kernel(WriteLatentKv a) {
  wait_for_previous();
  const int64_t t = block_x(), head = block_y() * kWarps + warp(), rotated = 2 * a.half,
                d = a.cache.head_dim;
  if (head > a.heads) return;
  const bool is_key = head == a.heads;
  const int64_t to = is_key ? cache_row(a.cache, a.positions.slot[t], a.positions.at[t], 0) : 0;
  float* const row = reinterpret_cast<float*>(shared_memory()) + warp() * d;
  const float* const vector = a.kv + t * d;
  const float* const from =
      is_key ? vector + a.rank : a.q + (t * a.heads + head) * (a.plain + rotated) + a.plain;
  for (int64_t i = lane(); i < rotated; i += 32) row[i] = from[i];
  for (int64_t i = lane(); is_key && i < a.rank; i += 32) row[rotated + i] = vector[i];
  sync_warp();
  apply_rope(row, a.cosines + t * a.half, a.sines + t * a.half, a.half, a.interleaved);
  if (is_key) {
    if (a.norm.weight != nullptr) norm_head(row + rotated, a.rank, a.norm);
    write_row(a.cache.keys, to, d, row);
  } else {
    float* const query = a.query + (t * a.heads + head) * d;
    for (int64_t i = lane(); i < rotated; i += 32) query[i] = row[i];
  }
}

// Four neighbours of a cached row: of `bytes` each as they lie, and as floats.
template <int bytes>
struct FourOfCache {
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
  PITH_MEMBER float get(NumberFormat type, int i) const {
    if constexpr (bytes == 4) {
      return bits_float(w[i]);
    } else if constexpr (bytes == 2) {
      const auto h = static_cast<uint16_t>(w[i / 2] >> (16 * (i % 2)));
      return type == NumberFormat::kF16 ? half_float(h) : bf16_float(h);
    } else {
      const auto b = static_cast<uint8_t>(w[0] >> (8 * i));
      return type == NumberFormat::kInt8 ? static_cast<float>(static_cast<int8_t>(b))
                                         : e4m3_float(b);
    }
  }
};

// sums[t, h, chunk] = the partial online softmax over the keys of a chunk (flash-decoding), for a
// token and a head; split_kv.cuh combines chunks. For caches that attention_decode.cu does not
// take.
//
// q       [m, heads * d] f32
// needs   heads a multiple of the cache's; d <= 256, of latent attention (value_bytes 0, keys are
//         values) 640, a multiple of 4                                 (checked by the launcher)
// sums    a key goes to warp key % 4, an online softmax step takes four keys of a warp; scores are
//         sums over 32 lanes by butterfly, and warps are combined in order: nothing depends on m
//         or on the grid
// grid    split_kv.cuh, a head a block; 4 warps
// bound   arithmetic: some 50 instructions of a warp a key
template <int key_bytes, int value_bytes, int steps>
PITH_KERNEL decode_attention_kernel(DecodeAttention a) {
  wait_for_previous();
  const ChunkKeys keys_of = keys_of_chunk(a, 1);
  if (keys_of.low >= keys_of.high) return;  // none of its keys are seen
  const int64_t d = a.cache.head_dim, kv_head = keys_of.first_head / (a.heads / a.cache.heads);
  const NumberFormat value_type = value_bytes == 0 ? a.cache.keys.type : a.cache.values.type;
  float q[4 * steps], top = kLowest, total = 0, sums[4 * steps] = {};
#pragma unroll
  for (int i = 0; i < 4 * steps; ++i) {
    const int64_t column = i / 4 * 128 + 4 * lane() + i % 4;
    q[i] =
        column < d ? a.q[(keys_of.token * a.heads + keys_of.first_head) * d + column] * a.scale : 0;
  }
  for (int64_t key = keys_of.low + warp(); key < keys_of.high; key += kWarps * kTogether) {
    FourOfCache<key_bytes> keys[kTogether][steps] = {};
    FourOfCache<value_bytes == 0 ? key_bytes : value_bytes> values[kTogether][steps] = {};
    float of_key[kTogether], of_value[kTogether];
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      of_key[u] = of_value[u] = 1;
      if (key + u * kWarps >= keys_of.high) continue;
      const int64_t row = cache_row(a.cache, keys_of.slot, key + u * kWarps, kv_head);
#pragma unroll
      for (int s = 0; s < steps; ++s) {
        const int64_t column = 128 * s + 4 * lane();
        if (column >= d) continue;
        keys[u][s].load(a.cache.keys.rows, row * d + column);
        if constexpr (value_bytes > 0) {
          values[u][s].load(a.cache.values.rows, row * d + column);
        } else {
          values[u][s] = keys[u][s];
        }
      }
      if (a.cache.keys.scales) of_key[u] = a.cache.keys.scales[row];
      if (value_bytes == 0) of_value[u] = of_key[u];
      if (a.cache.values.scales) of_value[u] = a.cache.values.scales[row];
    }
    float scores[kTogether], highest = top;
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      float score = 0;
#pragma unroll
      for (int i = 0; i < 4 * steps; ++i)
        score = fmaf(q[i], keys[u][i / 4].get(a.cache.keys.type, i % 4), score);
      score = warp_sum(score) * of_key[u];  // alike on all lanes
      if (a.cap > 0) score = capped(score, a.cap);
      scores[u] = key + u * kWarps < keys_of.high ? score : -INFINITY;
      highest = fmaxf(highest, scores[u]);
    }
    const float factor = exp_of(top - highest);
    top = highest;
    total *= factor;
#pragma unroll
    for (int i = 0; i < 4 * steps; ++i) sums[i] *= factor;
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      if (key + u * kWarps >= keys_of.high) continue;
      const float p = exp_of(scores[u] - top);
      total += p;
#pragma unroll
      for (int i = 0; i < 4 * steps; ++i)
        sums[i] = fmaf(p * of_value[u], values[u][i / 4].get(value_type, i % 4), sums[i]);
    }
  }

  float* const own = reinterpret_cast<float*>(shared_memory()) + warp() * chunk_floats(d);
#pragma unroll
  for (int i = 0; i < 4 * steps; ++i) {
    const int64_t column = i / 4 * 128 + 4 * lane() + i % 4;
    if (column < d) own[column] = sums[i];
  }
  if (lane() == 0) {
    own[d] = top;
    own[d + 1] = total;
  }
  combine_warps(a, keys_of, 1);
}

template <int key_bytes, int value_bytes>
Status run_decode(const DecodeAttention& a, Stream stream) {
  const int64_t d = a.cache.head_dim;
  const Grid grid{a.positions.m, a.heads, a.chunks, 32 * kWarps, chunk_shared_bytes(a, 1), true};
  if constexpr (value_bytes == 0) {
    if (d > 256) return launch(decode_attention_kernel<key_bytes, value_bytes, 5>, grid, stream, a);
  }
  if (d > 128) return launch(decode_attention_kernel<key_bytes, value_bytes, 2>, grid, stream, a);
  return launch(decode_attention_kernel<key_bytes, value_bytes, 1>, grid, stream, a);
}

int bytes_of(NumberFormat type) { return bits_of(type) / 8; }
template <int key_bytes>
Status run_decode(const DecodeAttention& a, Stream stream) {
  if (is_latent(a.cache)) return run_decode<key_bytes, 0>(a, stream);
  const int bytes = bytes_of(a.cache.values.type);
  if (bytes == 4) return run_decode<key_bytes, 4>(a, stream);
  if (bytes == 2) return run_decode<key_bytes, 2>(a, stream);
  return run_decode<key_bytes, 1>(a, stream);
}

}  // namespace

Status write_kv(const WriteKv& a, Stream stream) {
  WriteKv some = a;
  if (a.half == 0 && !a.rotate && a.query_norm.weight == nullptr)
    some.query_heads = 0;  // queries stay as they are
  const int64_t rows = some.query_heads + 2 * a.cache.heads;
  return launch(write_kv_kernel,
                {a.positions.m, (rows + kWarps - 1) / kWarps, 1, 32 * kWarps,
                 kWarps * a.cache.head_dim * static_cast<int64_t>(sizeof(float)), true},
                stream, some);
}

Status write_latent_kv(const WriteLatentKv& a, Stream stream) {
  if (a.cache.heads != 1 || a.cache.head_dim != a.rank + 2 * a.half)
    return refuse("write_latent_kv: a cache of %ld heads of %ld, it takes 1 of %ld", a.cache.heads,
                  a.cache.head_dim, a.rank + 2 * a.half);
  return launch(write_latent_kv_kernel,
                {a.positions.m, (a.heads + kWarps) / kWarps, 1, 32 * kWarps,
                 kWarps * a.cache.head_dim * static_cast<int64_t>(sizeof(float)), true},
                stream, a);
}

Status decode_attention(const DecodeAttention& a, Stream stream) {
  const int64_t d = a.cache.head_dim, most = is_latent(a.cache) ? 640 : 256;
  if (d < 4 || d > most || d % 4 != 0)
    return refuse("decode_attention: head_dim %ld, it takes multiples of 4 up to %ld", d, most);
  if (a.heads % a.cache.heads != 0)
    return refuse("decode_attention: %ld heads over %ld key heads", a.heads, a.cache.heads);
  if (has_mla_kernel(a.cache)) return decode_attention_mla(a, stream);
  if (has_mma_kernel(a.cache)) return decode_attention_mma(a, stream);
  const int bytes = bytes_of(a.cache.keys.type);
  if (bytes == 4) return run_decode<4>(a, stream);
  if (bytes == 2) return run_decode<2>(a, stream);
  return run_decode<1>(a, stream);
}

}  // namespace pith::cuda
