// Prefill attention: many queries at a time on tensor cores, as FlashAttention-2 (Dao 2023).
#include "runtime/cuda_kernels/attention/kv_dequantize.cuh"
#include "runtime/cuda_kernels/attention/kv_page.cuh"
#include "runtime/cuda_kernels/device/device.cuh"
#include "runtime/cuda_kernels/gemm/convert.cuh"
#include "runtime/cuda_kernels/launchers.h"
#include "runtime/cuda_kernels/refuse.h"

namespace pith::cuda {
namespace {

constexpr int kThreads = 128;
constexpr float kLowest = -3.0e38f;

// Rows of shared memory, in halves. Of values, read by ldmatrix: 8 more than they hold, so that 8
// rows lie in different banks. Of keys, of which 4 lanes read 64 bytes side by side: so long that
// the next row has the other half of the banks.
template <int D>
constexpr int kValueRow = D + 8;
template <int D>
constexpr int kKeyRow = (D + 31) / 64 * 64 + 32;
template <int D, int KT>
constexpr int kStageHalves = KT*(kKeyRow<D> + kValueRow<D>);

// Keys or values [first, first + KT), whole pages, to shared memory in rows of kRow; 0 behind
// `last`.
template <int D, int KT, int kRow>
PITH_DEVICE void load_rows(const Cache& cache, const CachePlane& plane, int slot, int64_t head,
                           int32_t first, int32_t last, uint16_t* to, float* scales) {
  constexpr int kPieces = D / 8;  // of a row; those of a page follow each other
  constexpr int kPage = static_cast<int>(kPageTokens), kOfPage = kPage * kPieces;
  const auto each = [&](auto take) {
#pragma unroll
    for (int p = 0; p < KT / kPage; ++p) {
      const int32_t begin = first + p * kPage, left = last - begin;
      const int64_t row = cache_row(cache, slot, left >= 0 ? begin : last / kPage * kPage, head);
#pragma unroll
      for (int i = 0; i < (kOfPage + kThreads - 1) / kThreads; ++i) {
        const int e = i * kThreads + thread_index();
        if (kOfPage % kThreads != 0 && e >= kOfPage) break;
        const int key = e / kPieces;
        take(p * kPage + key, e % kPieces, row + key, row * D + 8 * e, key <= left);
      }
    }
  };
  if (plane.type == NumberFormat::kF16) {
    each([&](int key, int piece, int64_t, int64_t at, bool valid) {
      copy_async16(to + key * kRow + 8 * piece, static_cast<const uint16_t*>(plane.rows) + at,
                   valid);
    });
  } else {
    each([&](int key, int piece, int64_t row, int64_t at, bool valid) {
      store16(to + key * kRow + 8 * piece,
              valid ? eight_halves(plane.type, plane.rows, at) : Bytes16{});
      if (piece == 0) scales[key] = valid ? plane.scales[row] : 0.0f;
    });
  }
}

// out[t, h] = softmax(scale q k) v for the tokens of a tile
//
// q, out  [., heads * D] f32
// cache   f16, int8 or fp8; codes become f16 in shared memory, their scales multiply scores and
//         probabilities, less a power of two that the sums have
// needs   head_dim == D; heads a multiple of the cache's              (checked by the launcher)
// sums    f32; keys in tiles of KT, an online softmax step each; q and probabilities are
//         rounded to f16. Where its tile begins changes a token's result only by
//         which of its scores share a tile with masked ones
// grid    x: tiles of 64 queries, y: heads; 4 warps of 16 queries; two stages of kStageHalves
// bound   arithmetic of tensor cores: 4 D multiply-adds a query and key
template <int D, int KT>
PITH_KERNEL prefill_attention_kernel(PrefillAttention a) {
  wait_for_previous();
  auto* const keys = reinterpret_cast<uint16_t*>(shared_memory());
  uint16_t* const values = keys + KT * kKeyRow<D>;
  auto* const scales = reinterpret_cast<float*>(keys + 2 * kStageHalves<D, KT>);
  const QueryTile tile = a.tiles[block_x()];
  const int64_t head = block_y(), kv_head = head / (a.heads / a.cache.heads);
  const int g = lane() / 4, t = lane() % 4, first_of_warp = 16 * warp();

  // Queries of rows g and g + 8 of the warp, the first operand of products. The order of columns is
  // free: lane t has columns 8 t to 8 t + 7 of 32, for two steps; of 16 that are left, 4.
  const auto column = [&](int s, int i) {
    return D % 32 != 0 && s == D / 16 - 1 ? 16 * s + 4 * t + i : s / 2 * 32 + 8 * t + s % 2 * 4 + i;
  };
  uint32_t q[D / 16][4];
  const float to_q = a.scale * kLog2E;
#pragma unroll
  for (int s = 0; s < D / 16; ++s) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = first_of_warp + g + 8 * (i % 2);
      const float* const from =
          a.q + ((tile.row + row) * a.heads + head) * D + column(s, i / 2 * 2);
      q[s][i] = row < tile.count ? half_pair(from[0] * to_q, from[1] * to_q) : 0;
    }
  }
  float sums[D / 8][4] = {};
  float top[2] = {kLowest, kLowest}, total[2] = {0, 0};
  float unit = kLeastUnit;  // of sums, where values have scales

  const int32_t last = tile.position + tile.count - 1;
  const auto window = static_cast<int32_t>(a.window < INT32_MAX ? a.window : INT32_MAX);
  const int32_t low = window > 0 && tile.position >= window ? tile.position - window + 1 : 0;
  const int32_t begin = low / KT, end = last / KT;
  const auto scales_of = [&](int32_t j) { return scales + (j - begin) % 2 * 2 * KT; };
  const auto load = [&](int32_t j) {
    const int stage = (j - begin) % 2 * kStageHalves<D, KT>;
    load_rows<D, KT, kKeyRow<D>>(a.cache, a.cache.keys, tile.slot, kv_head, j * KT, last,
                                 keys + stage, scales_of(j));
    load_rows<D, KT, kValueRow<D>>(a.cache, a.cache.values, tile.slot, kv_head, j * KT, last,
                                   values + stage, scales_of(j) + KT);
  };
  const int32_t first_at = tile.position + first_of_warp;  // of the warp's queries
  load(begin);
  commit_copies();
  for (int32_t j = begin; j <= end; ++j) {
    if (j < end) load(j + 1);
    commit_copies();
    wait_copies<1>();
    sync_block();
    const int stage = (j - begin) % 2 * kStageHalves<D, KT>;

    float p[KT / 8][4] = {};
#pragma unroll
    for (int n = 0; n < KT / 8; ++n) {
      const uint16_t* const key = keys + stage + (8 * n + g) * kKeyRow<D>;
#pragma unroll
      for (int s = 0; s + 1 < D / 16; s += 2) {
        const Bytes16 b = load16(key + column(s, 0));
        mma_f16(p[n], q[s], b.w);
        mma_f16(p[n], q[s + 1], b.w + 2);
      }
      if constexpr (D % 32 != 0) {
        const Bytes8 b = load8(key + column(D / 16 - 1, 0));
        mma_f16(p[n], q[D / 16 - 1], b.w);
      }
    }
    const float* const of_keys = scales_of(j) + 2 * t;
    if (a.cache.keys.scales) {
      const float factor = code_factor(a.cache.keys.type);
#pragma unroll
      for (int n = 0; n < KT / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) p[n][i] *= of_keys[8 * n + i % 2] * factor;
      }
    }
    if (a.cap > 0) {  // of scores times log2(e)
      const float limit = a.cap * kLog2E, by = 2 / a.cap;
#pragma unroll
      for (int n = 0; n < KT / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i)
          p[n][i] = limit - 2 * limit * reciprocal_about(exp2_about(p[n][i] * by) + 1);
      }
    }
    // Most tiles are seen whole by all queries of the warp.
    if (j * KT + KT - 1 > first_at || (window > 0 && j * KT <= first_at + 15 - window)) {
#pragma unroll
      for (int n = 0; n < KT / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int32_t key = j * KT + 8 * n + 2 * t + i % 2, at = first_at + g + 8 * (i / 2);
          if (key > at || key > last || (window > 0 && key <= at - window)) p[n][i] = -INFINITY;
        }
      }
    }
    float highest[2] = {top[0], top[1]};
#pragma unroll
    for (int n = 0; n < KT / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) highest[i / 2] = fmaxf(highest[i / 2], p[n][i]);
    }
    float factor[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      highest[i] = reduce_four(highest[i], higher);
      factor[i] = exp2_about(top[i] - highest[i]);
      top[i] = highest[i];
      total[i] *= factor[i];
    }
#pragma unroll
    for (int n = 0; n < KT / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        p[n][i] = exp2_about(p[n][i] - top[i / 2]);
        total[i / 2] += p[n][i];
      }
    }
    if (a.cache.values.scales) {
      float most = 0;
#pragma unroll
      for (int n = 0; n < KT / 8; ++n)
        most = larger(larger(of_keys[KT + 8 * n], of_keys[KT + 8 * n + 1]), most);
      const PowerOfTwo next = larger_power(unit, reduce_four(most, larger));
#pragma unroll
      for (int i = 0; i < 2; ++i) factor[i] *= unit * next.inverse;
      unit = next.value;
#pragma unroll
      for (int n = 0; n < KT / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) p[n][i] *= of_keys[KT + 8 * n + i % 2] * next.inverse;
      }
    }
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[n][i] *= factor[i / 2];
    }
#pragma unroll
    for (int k = 0; k < KT / 16; ++k) {
      const uint32_t weights[4] = {
          half_pair(p[2 * k][0], p[2 * k][1]), half_pair(p[2 * k][2], p[2 * k][3]),
          half_pair(p[2 * k + 1][0], p[2 * k + 1][1]), half_pair(p[2 * k + 1][2], p[2 * k + 1][3])};
      const uint16_t* const row =
          values + stage + (16 * k + lane() % 16) * kValueRow<D> + lane() / 16 * 8;
#pragma unroll
      for (int n = 0; n < D / 16; ++n) {
        uint32_t b[4];
        load_transposed(b, row + 16 * n);
        mma_f16(sums[2 * n], weights, b);
        mma_f16(sums[2 * n + 1], weights, b + 2);
      }
    }
    sync_block();  // the stage is loaded anew
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    total[i] = reduce_four(total[i], add);
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = first_of_warp + g + 8 * i;
    if (row >= tile.count) continue;
    float* const to = a.out + ((tile.row + row) * a.heads + head) * D + 2 * t;
    float factor = 1.0f / total[i];
    if (a.sinks) {
      const float sink = a.sinks[head] * kLog2E, highest = fmaxf(top[i], sink),
                  of_keys = exp2_about(top[i] - highest);
      factor = of_keys / fmaf(total[i], of_keys, exp2_about(sink - highest));
    }
    if (a.cache.values.scales) factor *= unit * code_factor(a.cache.values.type);
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
      to[8 * n] = sums[n][2 * i] * factor;
      to[8 * n + 1] = sums[n][2 * i + 1] * factor;
    }
  }
}

template <int D, int KT>
Status run(const PrefillAttention& a, Stream stream) {
  return launch(prefill_attention_kernel<D, KT>,
                {a.count, a.heads, 1, kThreads, int64_t{4} * kStageHalves<D, KT> + 16 * KT}, stream,
                a);
}

}  // namespace

Status prefill_attention(const PrefillAttention& a, Stream stream) {
  if (!has_prefill_kernel(a.cache))
    return refuse("prefill_attention: no kernel for a cache with head_dim %ld", a.cache.head_dim);
  if (a.heads % a.cache.heads != 0)
    return refuse("prefill_attention: %ld heads over %ld key heads", a.heads, a.cache.heads);
  switch (a.cache.head_dim) {
    case 64:
      return run<64, 64>(a, stream);
    case 80:
      return run<80, 64>(a, stream);
    case 96:
      return run<96, 64>(a, stream);
    case 128:
      return run<128, 64>(a, stream);
    default:
      return run<256, 16>(a, stream);
  }
}

}  // namespace pith::cuda
