// Latent attention from one token at a time, on tensor cores: all its heads meet the same keys,
// which are values as well, so that what is read of the cache is used by 16 or 32 heads at once.
#include "runtime/cuda_kernels/attention/kv_dequantize.cuh"
#include "runtime/cuda_kernels/attention/kv_page.cuh"
#include "runtime/cuda_kernels/attention/split_kv.cuh"
#include "runtime/cuda_kernels/launchers.h"
#include "runtime/cuda_kernels/refuse.h"

namespace pith::cuda {
namespace {

constexpr int kRank = static_cast<int>(kLatentRank), kRotated = static_cast<int>(kLatentRotated),
              kDim = kRank + kRotated;
constexpr int kKeys = 32;                 // of a tile, two pages
constexpr int kColumns = kRank / kWarps;  // of sums, of a warp
// Rows of shared memory, in halves: 8 more than they hold, so that 8 rows lie in different banks.
constexpr int kRow = kDim + 8, kWeightRow = kKeys + 8;

// The workspace of a block of kGroups * 16 heads; it lies behind the rows.
template <int kGroups>
struct LatentWorkspace {
  uint16_t queries[kGroups * 16 * kRow], keys[kKeys * kRow], weights[kGroups * 16 * kWeightRow];
  float powers[kGroups * 16];        // that queries are divided by
  float tops[kGroups * 16][kWarps];  // of a row and the keys of a warp; then totals
  float scales[kKeys];               // of keys
};

// Numbers 8 i to 8 i + 7 of a cached row as f16.
template <NumberFormat type>
PITH_DEVICE Bytes16 cached_halves(const void* rows, int64_t at) {
  if constexpr (has_row_scale(type)) {
    return eight_halves(type, rows, at);
  } else {
    Bytes16 v = load16(static_cast<const uint16_t*>(rows) + at);
    if constexpr (type == NumberFormat::kBF16) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        v.w[i] = half_pair(bits_float(v.w[i] << 16), bits_float(v.w[i] & 0xffff0000u));
    }
    return v;
  }
}

// Keys [first, first + kKeys), whole pages, to shared memory; 0 behind `last`.
template <NumberFormat type, int kGroups>
PITH_DEVICE void load_keys(const Cache& cache, int slot, int32_t first, int32_t last,
                           LatentWorkspace<kGroups>& workspace) {
  constexpr int kPieces = kDim / 8, kPage = static_cast<int>(kPageTokens);
#pragma unroll
  for (int p = 0; p < kKeys / kPage; ++p) {
    const int32_t begin = first + p * kPage, left = last - begin;
    const int64_t row = cache_row(cache, slot, left >= 0 ? begin : last / kPage * kPage, 0);
#pragma unroll 4
    for (int e = thread_index(); e < kPage * kPieces; e += block_threads()) {
      const int key = e / kPieces;
      uint16_t* const to = workspace.keys + (p * kPage + key) * kRow + e % kPieces * 8;
      if constexpr (type == NumberFormat::kF16) {
        copy_async16(to, static_cast<const uint16_t*>(cache.keys.rows) + row * kDim + 8 * e,
                     key <= left);
      } else {
        store16(to,
                key <= left ? cached_halves<type>(cache.keys.rows, row * kDim + 8 * e) : Bytes16{});
      }
    }
    for (int key = thread_index(); key < kPage; key += block_threads()) {
      const bool scaled = has_row_scale(type);
      workspace.scales[p * kPage + key] = key > left ? 0.0f
                                          : scaled
                                              ? cache.keys.scales[row + key] * code_factor(type)
                                              : 1.0f;
    }
  }
  commit_copies();
}

// sums[t, h, chunk] = the partial online softmax over the keys of a chunk (flash-decoding), for a
// token and a head; split_kv.cuh combines chunks. Columns of out from kRotated on.
//
// q       [m, heads * kDim] f32: what is rotated, then what meets the cached vector
// cache   one head of kDim numbers, f16, bf16, int8 or fp8, which become f16 in shared memory;
//         their scales multiply scores, and probabilities, less a power of two that the sums have
// needs   a cache that has_mla_kernel() takes                        (checked by the launcher)
// sums    f32; keys in tiles of 32, an online softmax step each; queries and probabilities are
//         rounded to f16. A result depends on the token and its position alone
// grid    split_kv.cuh, 16 kGroups heads a block; 4 kGroups warps. A warp has 8 keys of the
//         scores of 16 heads, then 128 columns of their sums
// bound   up to some 32 heads memory: 1152 bytes a key in f16; then tensor cores
template <NumberFormat type, int kGroups>
PITH_KERNEL PITH_BLOCKS(32 * kWarps * kGroups, 4 / kGroups)
    decode_attention_mla_kernel(DecodeAttention a) {
  wait_for_previous();
  const ChunkKeys of = keys_of_chunk(a, 16 * kGroups);
  if (of.low >= of.high) return;  // none of its keys are seen
  auto& workspace = *reinterpret_cast<LatentWorkspace<kGroups>*>(shared_memory());
  const int group = warp() / kWarps, part = warp() % kWarps, g = lane() / 4, t = lane() % 4;

  const auto left = static_cast<int>(a.heads - of.first_head);
  const int heads = left < 16 * kGroups ? left : 16 * kGroups;
  for (int r = warp(); r < 16 * kGroups; r += kWarps * kGroups) {
    float x[kDim / 32], most = 0;
    const float* const q = a.q + (of.token * a.heads + of.first_head + r) * kDim;
#pragma unroll
    for (int i = 0; i < kDim / 32; ++i) {
      x[i] = r < heads ? q[lane() + 32 * i] : 0.0f;
      most = larger(fabsf(x[i]), most);
    }
    const float power = half_scale(warp_reduce(most, larger)), inverse = 1.0f / power;
#pragma unroll
    for (int i = 0; i < kDim / 32; ++i)
      workspace.queries[r * kRow + lane() + 32 * i] = float_half(x[i] * inverse);
    if (lane() == 0) workspace.powers[r] = power * a.scale;
  }

  float sums[kColumns / 8][4] = {}, top[2] = {kLowest, kLowest}, total[2] = {}, unit = kLeastUnit;
  // Rows as load_matrices() wants them named.
  const uint16_t* const queries =
      workspace.queries + (16 * group + lane() % 16) * kRow + lane() / 16 * 8;
  const uint16_t* const keys = workspace.keys + (8 * part + lane() % 8) * kRow + lane() / 8 * 8;
  for (int32_t key = of.low / 16 * 16; key < of.high; key += kKeys) {
    sync_block();  // nobody reads what was there
    load_keys<type, kGroups>(a.cache, of.slot, key, of.high - 1, workspace);
    wait_copies<0>();
    sync_block();
    float parts[2][4] = {};
#pragma unroll
    for (int s = 0; s < kDim / 16; s += 2) {
      uint32_t k[4];
      load_matrices(k, keys + 16 * s);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        uint32_t q[4];
        load_matrices(q, queries + 16 * (s + half));
        mma_f16(parts[half], q, k + 2 * half);
      }
    }
    float scores[4], highest[2] = {kLowest, kLowest};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = 8 * part + 2 * t + i % 2;
      float score = parts[0][i] + parts[1][i];
      score *= workspace.powers[16 * group + g + i / 2 * 8] * workspace.scales[at];
      if (a.cap > 0) score = capped(score, a.cap);
      scores[i] = key + at >= of.low && key + at < of.high ? score : -INFINITY;
      highest[i / 2] = higher(highest[i / 2], scores[i]);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      highest[i] = reduce_four(highest[i], higher);
      if (t == 0) workspace.tops[16 * group + g + 8 * i][part] = highest[i];
    }
    const PowerOfTwo next = larger_power(unit, warp_reduce(workspace.scales[lane()], larger));
    sync_block();
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float* const of_row = workspace.tops[16 * group + g + 8 * i];
      float all = top[i];
#pragma unroll
      for (int p = 0; p < kWarps; ++p) all = higher(all, of_row[p]);
      const float factor = exp2_about((top[i] - all) * kLog2E);
      top[i] = all;
      total[i] *= factor;
      const float of_sums = factor * (unit * next.inverse);
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n) {
        sums[n][2 * i] *= of_sums;
        sums[n][2 * i + 1] *= of_sums;
      }
      float p[2];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        p[j] = exp2_about((scores[2 * i + j] - all) * kLog2E);
        total[i] += p[j];
        p[j] *= workspace.scales[8 * part + 2 * t + j] * next.inverse;
      }
      store4(workspace.weights + (16 * group + g + 8 * i) * kWeightRow + 8 * part + 2 * t,
             half_pair(p[0], p[1]));
    }
    unit = next.value;
    sync_block();
    const uint16_t* const weights = workspace.weights + (16 * group + g) * kWeightRow + 2 * t;
#pragma unroll
    for (int s = 0; s < kKeys / 16; ++s) {
      const uint32_t p[4] = {load4(weights + 16 * s), load4(weights + 8 * kWeightRow + 16 * s),
                             load4(weights + 16 * s + 8),
                             load4(weights + 8 * kWeightRow + 16 * s + 8)};
      const uint16_t* const values = workspace.keys + (16 * s + lane() % 16) * kRow + kRotated +
                                     kColumns * part + lane() / 16 * 8;
#pragma unroll
      for (int n = 0; n < kColumns / 16; ++n) {
        uint32_t v[4];
        load_transposed(v, values + 16 * n);
        mma_f16(sums[2 * n], p, v);
        mma_f16(sums[2 * n + 1], p, v + 2);
      }
    }
  }

#pragma unroll
  for (int i = 0; i < 2; ++i) {
    total[i] = reduce_four(total[i], add);
    if (t == 0) workspace.tops[16 * group + g + 8 * i][part] = total[i];
  }
  sync_block();
  constexpr int kBehind = static_cast<int>(chunk_floats(kDim));
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int r = 16 * group + g + 8 * i;
    if (r >= heads) continue;
    float* const to =
        a.sums + ((of.token * a.heads + of.first_head + r) * a.chunks + of.chunk) * kBehind;
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) {
      store8(to + kRotated + kColumns * part + 8 * n + 2 * t,
             {float_bits(sums[n][2 * i] * unit), float_bits(sums[n][2 * i + 1] * unit)});
    }
    if (part == 0 && t == 0) {
      float all = 0;
      for (int p = 0; p < kWarps; ++p) all += workspace.tops[r][p];
      to[kDim] = top[i];
      to[kDim + 1] = all;
    }
  }
  sync_block();
  combine_if_last(a, of, heads);
}

template <int kGroups>
Status run(const DecodeAttention& a, Stream stream) {
  const auto start = [&](auto kernel) {
    const int64_t workspace = sizeof(LatentWorkspace<kGroups>),
                  factors = 4 * 16 * kGroups * a.chunks;
    return launch(kernel,
                  {a.positions.m, (a.heads + 16 * kGroups - 1) / (16 * kGroups), a.chunks,
                   32 * kWarps * kGroups, workspace > factors ? workspace : factors, true},
                  stream, a);
  };
  switch (a.cache.keys.type) {
    case NumberFormat::kF16:
      return start(decode_attention_mla_kernel<NumberFormat::kF16, kGroups>);
    case NumberFormat::kBF16:
      return start(decode_attention_mla_kernel<NumberFormat::kBF16, kGroups>);
    case NumberFormat::kInt8:
      return start(decode_attention_mla_kernel<NumberFormat::kInt8, kGroups>);
    default:
      return start(decode_attention_mla_kernel<NumberFormat::kE4M3, kGroups>);
  }
}

}  // namespace

Status decode_attention_mla(const DecodeAttention& a, Stream stream) {
  if (!has_mla_kernel(a.cache) || a.cache.heads != 1)
    return refuse("decode_attention_mla: a cache of %ld heads of %ld that is not latent",
                  a.cache.heads, a.cache.head_dim);
  if (a.halves.values != nullptr || a.bytes.values != nullptr)
    return "decode_attention_mla: it does not round its outputs for a GEMM";
  if (a.chunks > max_chunks(1))
    return refuse("decode_attention_mla: %ld chunks of keys, it takes %ld", a.chunks,
                  max_chunks(1));
  return a.heads > 16 ? run<2>(a, stream) : run<1>(a, stream);
}

}  // namespace pith::cuda
