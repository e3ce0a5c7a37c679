// Decode attention on tensor cores: all query heads that share a key head together (GQA).
#include "runtime/cuda_kernels/attention/kv_dequantize.cuh"
#include "runtime/cuda_kernels/attention/kv_page.cuh"
#include "runtime/cuda_kernels/attention/split_kv.cuh"
#include "runtime/cuda_kernels/device/device.cuh"
#include "runtime/cuda_kernels/launchers.h"

namespace pith::cuda {
namespace {

constexpr int kMaxHeads = 8;  // of a block

// The numbers of a cache in registers: pairs of bf16, or of f16, of which those of fp8 are 2^-8
// times what they mean.
template <NumberFormat type>
struct Numbers {
  static constexpr bool kBytes = has_row_scale(type);
  static constexpr float kFactor = code_factor(type);

  // Eight neighbours of a row, as they lie.
  struct Eight {
    uint32_t w[kBytes ? 2 : 4];
    PITH_MEMBER void load(const void* rows, int64_t at, bool valid) {
      if (!valid) {
        for (uint32_t& v : w) v = 0;
      } else if constexpr (kBytes) {
        const Bytes8 v = load8(static_cast<const unsigned char*>(rows) + at);
        w[0] = v.w[0];
        w[1] = v.w[1];
      } else {
        const Bytes16 v = load16(static_cast<const uint16_t*>(rows) + at);
        for (int i = 0; i < 4; ++i) w[i] = v.w[i];
      }
    }
  };

  // Numbers 2 i and 2 i + 1.
  PITH_MEMBER static uint32_t pair(const Eight& e, int i) {
    if constexpr (kBytes) return code_pair(type, e.w[i / 2], i % 2);
    return e.w[i];
  }
  // Number i of a and that of b.
  PITH_MEMBER static uint32_t across(const Eight& a, const Eight& b, int i) {
    if constexpr (kBytes) {
      const uint32_t four = select_bytes(a.w[i / 4], b.w[i / 4], i % 4 < 2 ? 0x5140 : 0x7362);
      return code_pair(type, four, i % 2);
    } else {
      return select_bytes(a.w[i / 2], b.w[i / 2], i % 2 == 0 ? 0x5410 : 0x7632);
    }
  }
  // Two numbers, and what that leaves of them: 22 bits together, of bf16 16.
  PITH_MEMBER static void split(float a, float b, uint32_t* high, uint32_t* rest) {
    if constexpr (type == NumberFormat::kBF16) {
      const uint16_t x = float_bf16(a), y = float_bf16(b);
      *high = static_cast<uint32_t>(y) << 16 | x;
      *rest = static_cast<uint32_t>(float_bf16(b - bf16_float(y))) << 16 |
              float_bf16(a - bf16_float(x));
    } else {
      *high = half_pair(a, b);
      *rest = half_pair(a - half_float(static_cast<uint16_t>(*high)),
                        b - half_float(static_cast<uint16_t>(*high >> 16)));
    }
  }
  PITH_MEMBER static void multiply(float* d, const uint32_t* a, const uint32_t* b) {
    if constexpr (type == NumberFormat::kBF16) {
      mma_bf16(d, a, b);
    } else {
      mma_f16(d, a, b);
    }
  }
};

// sums[t, h, chunk] = the partial online softmax over the keys of a chunk (flash-decoding), for a
// token and up to 8 heads that share a key head (GQA); split_kv.cuh combines chunks
//
// q       [m, heads * d] f32
// cache   all but f32; d <= 64 kBlocks a multiple of 8                 (checked by the launcher)
// sums    queries, and weights of keys, are two numbers each, in rows g and g + 8 of the first
//         operand: 22 bits are multiplied (bf16 caches: 16), and summed in f32. Page i of a chunk
//         goes to warp i % 4, an online softmax step takes a page; warps are combined in order:
//         nothing depends on m or on the grid
// grid    split_kv.cuh, `heads` a block; 4 warps
// bound   memory: the rows of the chunk, read once
//
// Second operands come from memory to registers as they are multiplied, for columns of keys, and of
// the result, may have any order: lane 4 g + t has of key 8 n + g columns 32 b + 8 t to 8 t + 7,
// and of values of keys 2 t, 2 t + 1, 2 t + 8 and 2 t + 9 columns 64 b + 8 g to 8 g + 7.
template <NumberFormat key_type, NumberFormat value_type, int kBlocks>
PITH_KERNEL decode_attention_mma_kernel(DecodeAttention a, int32_t heads) {
  using Keys = Numbers<key_type>;
  using Values = Numbers<value_type>;
  constexpr bool kAhead = kBlocks <= 2;  // the registers have room for a page on its way
  constexpr auto kPage = static_cast<int32_t>(kPageTokens);
  wait_for_previous();
  const ChunkKeys keys_of = keys_of_chunk(a, heads);
  if (keys_of.low >= keys_of.high) return;  // none of its keys are seen
  const auto d = static_cast<int32_t>(a.cache.head_dim);
  const int64_t kv_head = keys_of.first_head / (a.heads / a.cache.heads);
  const int g = lane() / 4, t = lane() % 4;

  // First operands of the products with keys: [step of 16 columns][lane] of 16 bytes.
  const float* const q_of_lane =
      a.q + (keys_of.token * a.heads + keys_of.first_head + (g < heads ? g : 0)) * d;
  const auto q_at = [&](int column) { return load_four(q_of_lane, column, d); };
  float power = 1;
  if constexpr (key_type != NumberFormat::kBF16) {
    float most = 0;
#pragma unroll
    for (int b = 0; b < 4 * kBlocks; ++b) most = larger(absmax_of(q_at(16 * b + 4 * t)), most);
    power = half_scale(reduce_four(most, larger));
  }
  unsigned char* const queries = shared_memory() + 16 * lane();
  for (int step = warp(); step < 4 * kBlocks; step += kWarps) {
    const Four f = q_at(32 * (step / 2) + 8 * t + 4 * (step % 2));
    Bytes16 to;
    Keys::split(f.v[0] / power, f.v[1] / power, &to.w[0], &to.w[1]);
    Keys::split(f.v[2] / power, f.v[3] / power, &to.w[2], &to.w[3]);
    store16(queries + 512 * step, to);
  }
  sync_block();
  const float to_score = power * a.scale * Keys::kFactor;

  typename Keys::Eight keys[2][2 * kBlocks];
  typename Values::Eight values[4][kBlocks];
  float key_scales[4], value_scales[4];  // of keys 2 t, 2 t + 1, 2 t + 8, 2 t + 9
  const auto key_of = [&](int i) { return 2 * t + i % 2 + i / 2 * 8; };
  const auto sees = [&](int32_t page, int i) {
    const int32_t key = page * kPage + key_of(i);
    return key >= keys_of.low && key < keys_of.high;
  };
  const auto row_of = [&](int32_t page) {
    return cache_row(a.cache, keys_of.slot, page * kPage, kv_head);
  };
  const auto load_keys = [&](int64_t row) {
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int b = 0; b < 2 * kBlocks; ++b)
        keys[n][b].load(a.cache.keys.rows, (row + 8 * n + g) * d + 32 * b + 8 * t,
                        32 * b + 8 * t < d);
    }
    if constexpr (Keys::kBytes) {
#pragma unroll
      for (int i = 0; i < 4; ++i) key_scales[i] = a.cache.keys.scales[row + key_of(i)];
    }
  };
  // Values that are not seen are 0, for nobody may have written them.
  const auto load_values = [&](int32_t page, int64_t row) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const bool seen = sees(page, i);
#pragma unroll
      for (int b = 0; b < kBlocks; ++b)
        values[i][b].load(a.cache.values.rows, (row + key_of(i)) * d + 64 * b + 8 * g,
                          64 * b + 8 * g < d && seen);
      if constexpr (Values::kBytes)
        value_scales[i] = seen ? a.cache.values.scales[row + key_of(i)] : 0.0f;
    }
  };

  float top = kLowest, total = 0, sums[8 * kBlocks][4] = {};
  float unit = kLeastUnit;  // of sums, where values have scales
  const int32_t last = (keys_of.high - 1) / kPage;
  int32_t page = keys_of.chunk * (keys_of.keys / kPage) + warp();
  while ((page + 1) * kPage <= keys_of.low) page += kWarps;
  int64_t row = page <= last ? row_of(page) : 0;
  if (kAhead && page <= last) {
    load_keys(row);
    load_values(page, row);
  }
  for (; page <= last; page += kWarps) {
    const int32_t next_page = page + kWarps;
    const int64_t next_row = next_page <= last ? row_of(next_page) : 0;
    if (!kAhead) load_keys(row);
    float scores[2][4] = {};
#pragma unroll
    for (int step = 0; step < 4 * kBlocks; ++step) {
      const Bytes16 q = load16(queries + 512 * step);
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const auto& eight = keys[n][step / 2];
        const uint32_t k[2] = {Keys::pair(eight, step % 2 * 2),
                               Keys::pair(eight, step % 2 * 2 + 1)};
        Keys::multiply(scores[n], q.w, k);
      }
    }
    float p[4], highest = top;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      p[i] = (scores[i / 2][i % 2] + scores[i / 2][2 + i % 2]) * to_score;
      if constexpr (Keys::kBytes) p[i] *= key_scales[i];
      if (a.cap > 0) p[i] = capped(p[i], a.cap);
      if (!sees(page, i)) p[i] = -INFINITY;
      highest = fmaxf(highest, p[i]);
    }
    if (kAhead && next_page <= last) load_keys(next_row);
    highest = reduce_four(highest, higher);
    float factor = exp2_about((top - highest) * kLog2E);
    top = highest;
    total *= factor;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      p[i] = exp2_about((p[i] - highest) * kLog2E);
      total += p[i];
    }
    if (!kAhead) load_values(page, row);
    if constexpr (Values::kBytes) {
      const float most = larger(larger(value_scales[0], value_scales[1]),
                                larger(value_scales[2], value_scales[3]));
      const PowerOfTwo next = larger_power(unit, reduce_four(most, larger));
      factor *= unit * next.inverse;
      unit = next.value;
#pragma unroll
      for (int i = 0; i < 4; ++i) p[i] *= value_scales[i] * next.inverse;
    }
#pragma unroll
    for (int n = 0; n < 8 * kBlocks; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[n][i] *= factor;
    }
    uint32_t weights[4];
    Values::split(p[0], p[1], &weights[0], &weights[1]);
    Values::split(p[2], p[3], &weights[2], &weights[3]);
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const uint32_t v[2] = {Values::across(values[0][b], values[1][b], j),
                               Values::across(values[2][b], values[3][b], j)};
        Values::multiply(sums[8 * b + j], weights, v);
      }
    }
    if (kAhead && next_page <= last) load_values(next_page, next_row);
    row = next_row;
  }

  total = reduce_four(total, add);
  sync_block();  // the queries are no longer needed
  if (g < heads) {
    float* const own =
        reinterpret_cast<float*>(shared_memory()) + (warp() * heads + g) * chunk_floats(d);
    const float back = Values::kBytes ? unit * Values::kFactor : 1.0f;
#pragma unroll
    for (int n = 0; n < 8 * kBlocks; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int column = n / 8 * 64 + 8 * (2 * t + i) + n % 8;
        if (column < d) own[column] = (sums[n][i] + sums[n][2 + i]) * back;
      }
    }
    if (t == 0) {
      own[d] = top;
      own[d + 1] = total;
    }
  }
  combine_warps(a, keys_of, heads);
}

template <NumberFormat keys, NumberFormat values>
Status run(const DecodeAttention& a, Stream stream) {
  const int64_t d = a.cache.head_dim, shared = a.heads / a.cache.heads;
  int32_t heads = kMaxHeads;
  while (shared % heads != 0) --heads;
  const int64_t of_queries = (d <= 64    ? 1
                              : d <= 128 ? 2
                                         : 4) *
                             4 * 512,
                of_sums = chunk_shared_bytes(a, heads);
  const Grid grid{a.positions.m,
                  a.heads / heads,
                  a.chunks,
                  32 * kWarps,
                  of_queries > of_sums ? of_queries : of_sums,
                  true};
  if (d <= 64) return launch(decode_attention_mma_kernel<keys, values, 1>, grid, stream, a, heads);
  if (d <= 128) return launch(decode_attention_mma_kernel<keys, values, 2>, grid, stream, a, heads);
  return launch(decode_attention_mma_kernel<keys, values, 4>, grid, stream, a, heads);
}

template <NumberFormat keys>
Status run(const DecodeAttention& a, Stream stream) {
  switch (a.cache.values.type) {
    case NumberFormat::kF16:
      return run<keys, NumberFormat::kF16>(a, stream);
    case NumberFormat::kBF16:
      return run<keys, NumberFormat::kBF16>(a, stream);
    case NumberFormat::kInt8:
      return run<keys, NumberFormat::kInt8>(a, stream);
    default:
      return run<keys, NumberFormat::kE4M3>(a, stream);
  }
}

}  // namespace

Status decode_attention_mma(const DecodeAttention& a, Stream stream) {
  switch (a.cache.keys.type) {
    case NumberFormat::kF16:
      return run<NumberFormat::kF16>(a, stream);
    case NumberFormat::kBF16:
      return run<NumberFormat::kBF16>(a, stream);
    case NumberFormat::kInt8:
      return run<NumberFormat::kInt8>(a, stream);
    default:
      return run<NumberFormat::kE4M3>(a, stream);
  }
}

}  // namespace pith::cuda
