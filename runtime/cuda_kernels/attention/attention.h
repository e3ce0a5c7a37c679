// The paged KV cache, and decode and prefill attention over it: the arguments of their kernels.
// Pointers are to device memory.
#pragma once

#include <stdint.h>

#include "runtime/cuda_kernels/gemm/activations.h"

namespace pith::cuda {

// Where the tokens of a batch stand.
struct Positions {
  const int32_t* slot;  // [m]: of the cache
  const int32_t* at;    // [m]
  int64_t m;
};
// Keys or values of one attention: rows [page][head][16 tokens][head_dim]; int8 and e4m3 with a
// scale a row. Token p of slot s is row p % 16 of page pages[s * pages_per_slot + p / 16]. Of
// latent attention keys are values as well (absorbed_form() of runtime/model/spec.h): values have
// no rows.
struct CachePlane {
  NumberFormat type;  // kF32, kF16, kBF16, kInt8 or kE4M3
  void* rows;
  float* scales;
};
inline constexpr int64_t kPageTokens = 16;
struct Cache {
  CachePlane keys, values;
  const int32_t* pages;
  int64_t pages_per_slot, heads, head_dim;
};
// x / sqrt(mean of squares + eps) * weight of a head; null: not.
struct HeadNorm {
  const float* weight;
  float eps;
};
// Per-head RMS norm of queries and keys, RoPE (`half` 0: none), then, where `rotate`, the
// normalized Hadamard transform of each head of both (in blocks of the largest power of two that
// divides head_dim). Queries stay in place, keys and values are written to the KV cache. With no
// heads in the cache it is queries alone.
struct WriteKv {
  Cache cache;
  Positions positions;
  float* q;  // [m, query_heads * head_dim], in place
  int64_t query_heads;
  const float* k;  // [m, heads * head_dim]
  const float* v;
  const float* cosines;  // [m, half]
  const float* sines;
  int64_t half;
  bool interleaved, rotate;
  HeadNorm query_norm = {}, key_norm = {};
};
PITH_BOTH constexpr bool is_latent(const Cache& c) { return c.values.rows == nullptr; }

// MLA: RoPE of the rotary part of queries and keys, RMS norm of the latent vector (kv_a_layernorm),
// and both written to the KV cache.
struct WriteLatentKv {
  Cache cache;  // of one head of 2 half + rank numbers
  Positions positions;
  const float* q;  // [m, heads, plain + 2 half]
  int64_t heads, plain;
  const float* kv;  // [m, rank + 2 half]
  int64_t rank;
  HeadNorm norm;
  const float* cosines;  // [m, half]
  const float* sines;
  int64_t half;
  bool interleaved;
  float* query;  // [m, heads, 2 half + rank]: the first 2 half of each are written
};
// Decode attention: out[t, h] = softmax(scale q k) v over the keys of t's slot, all up to itself or
// the last `window` (causal); scores become cap tanh(score / cap) where `cap` is not 0 (soft cap),
// and `sinks` [heads], or null, are attention sinks: an extra logit a head in the denominator of
// the softmax. Keys go in chunks (split-KV, flash-decoding), whose partial softmaxes are combined
// in order. Chunks depend on the position alone, and so does the result.
//
// A block has a chunk of a key head, and one block combines them: enough chunks to fill a chip, and
// no more.
inline constexpr int64_t kChunkKeys = 256;  // at least
PITH_BOTH constexpr int64_t max_chunks(int64_t key_heads) {
  return key_heads >= 8 ? 32 : key_heads <= 2 ? 128 : 64;
}
// Keys of a chunk, for a sequence of so many keys.
PITH_BOTH constexpr int64_t chunk_keys(int64_t keys, int64_t key_heads) {
  int64_t size = kChunkKeys;
  while (size * max_chunks(key_heads) < keys) size *= 2;
  return size;
}
// No sequence of `longest` keys or fewer has more.
constexpr int64_t chunks_within(int64_t longest, int64_t key_heads) {
  const int64_t chunks = (longest + kChunkKeys - 1) / kChunkKeys, most = max_chunks(key_heads);
  return chunks < most ? chunks : most;
}
// The partial softmax of a chunk: an output row, the running maximum and sum, up to 16 bytes.
PITH_BOTH constexpr int64_t chunk_floats(int64_t head_dim) { return head_dim + 4; }
struct DecodeAttention {
  Cache cache;
  Positions positions;
  const float* q;  // [m, heads * head_dim]
  int64_t heads;
  int64_t window;  // 0: all
  float scale, cap;
  const float* sinks;
  int64_t chunks;  // at least chunks_within() the longest sequence of the batch
  float* sums;     // workspace: [m, heads, chunks, chunk_floats(head_dim)]
  float* out;      // [m, heads * head_dim]
  // The last block of a head combines its chunks, the last of a token converts the output for the
  // next GEMM, where `halves` or `bytes` wants it. [m, heads + 1], 0 before and after.
  int32_t* arrived;
  HalfInputs halves;  // or no values
  Int8Inputs bytes;   // or no values
};

// Prefill attention (FlashAttention-2), in tiles of up to kTileQueries successive tokens of a
// sequence, on tensor cores: keys and values in f16, int8 or fp8, queries and probabilities rounded
// to f16. For head sizes that has_prefill_kernel() takes.
inline constexpr int64_t kTileQueries = 64;
struct QueryTile {
  int32_t row;    // of q and out, of its first token
  int32_t count;  // tokens
  int32_t slot;
  int32_t position;  // of its first token
};
struct PrefillAttention {
  Cache cache;
  const QueryTile* tiles;
  int64_t count;
  const float* q;
  int64_t heads, window;
  float scale, cap;
  const float* sinks;
  float* out;
};
// Whether decode attention runs on tensor cores.
constexpr bool has_mma_kernel(const Cache& c) {
  return !is_latent(c) && c.head_dim % 8 == 0 && c.keys.type != NumberFormat::kF32 &&
         c.values.type != NumberFormat::kF32;
}
constexpr bool has_prefill_kernel(const Cache& c) {
  const bool sized = c.head_dim == 64 || c.head_dim == 80 || c.head_dim == 96 ||
                     c.head_dim == 128 || c.head_dim == 256;
  const auto typed = [](NumberFormat t) {
    return t != NumberFormat::kF32 && t != NumberFormat::kBF16;
  };
  return !is_latent(c) && sized && typed(c.keys.type) && typed(c.values.type);
}
// Whether MLA decode runs on tensor cores: DeepSeek's sizes. The output columns of the rotary part
// are not written then.
inline constexpr int64_t kLatentRank = 512, kLatentRotated = 64;
constexpr bool has_mla_kernel(const Cache& c) {
  return is_latent(c) && c.head_dim == kLatentRank + kLatentRotated &&
         c.keys.type != NumberFormat::kF32;
}

}  // namespace pith::cuda
