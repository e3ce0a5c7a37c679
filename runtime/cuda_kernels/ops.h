// What the CUDA backend can do, as plain functions over device memory: the seam between the
// executor, which is part of the program, and the shared object with the kernels. The same table is
// filled by the emulation of the kernels (device/emulated.h), so that the executor is tested
// without a GPU.
//
// Pointers in arguments are to device memory. Every function returns null, or what went wrong. Work
// is done in order on the stream that it is given.
#pragma once

#include <stdint.h>
#include <string.h>

#include "runtime/cuda_kernels/compress/dense_algebra.h"
#include "runtime/cuda_kernels/compress/gptq.h"
#include "runtime/cuda_kernels/gemm/weight_tiles.h"

namespace pith::cuda {

using Stream = void*;
using Graph = void*;
using Status = const char*;

// Where codes come from: `row_major` elements of 1 or 2 bytes [n, k], or the words of a part of
// integers as they lie in a file (formats/encodings/int_group.h): [tile][unit][words of a
// unit][16], of which this part has those from `first_word` on.
struct CodeSource {
  const void* data;
  bool row_major;
  int32_t unit_words, first_word;
};
struct RepackCodes {
  CodeSource from;
  int32_t bits;  // of the part
  int64_t n, k, tiles, stages;
  void* to;
};
// [tiles][from_groups][16] to [tiles][groups][8][2] of elements of `bytes` 1, 2 or 4; groups that
// are missing are 0.
struct RepackPairs {
  const void* from;
  int32_t bytes;
  int64_t tiles, from_groups, groups;
  void* to;
};
// The same of zeros, from units of 16 codes in 2 * bits bytes to bytes.
struct RepackZeros {
  const void* from;
  int32_t bits;
  int64_t tiles, from_groups, groups;
  uint8_t* to;
};

// Activations of a GEMM in f16, each token divided by a power of two so that none overflows; or
// quantized as formats/encodings/input.h has it, with one scale a token, its own or `fixed` where
// that is not 0 (the codes are exact in f16).
enum class RoundTo : int32_t { kHalf, kInt8, kE4M3 };
struct HalfInputs {
  uint16_t* values;  // [m, stride], 0 from column k on
  int64_t stride;    // a multiple of kStageColumns
  float* scales;     // [m]
  int64_t m;
  RoundTo round = RoundTo::kHalf;
  float fixed = 0;

  // The rows from `first` on; empty inputs stay empty.
  HalfInputs rows_from(int64_t first) const {
    if (values == nullptr) return *this;
    return {values + first * stride, stride, scales + first, m - first, round, fixed};
  }
};

// The properties of a GPU that gemm_plan.h depends on.
struct Chip {
  int32_t multiprocessors;
  int64_t shared_bytes;  // that a block can have
};
struct GemmPlan {
  int32_t tokens;  // of a block: 8, 16, 32 or, for some codes, 64
  int32_t warps;   // of a block: 1, 2, 4 or 8
  int32_t stages;  // of the pipeline: 2, 3 or 4
  int32_t splits;  // split-K, blocks that share rows and tokens: 1, 2, 4 or 8
};
// Partial sums of split-K. `arrived` is 0 before and after.
struct GemmWorkspace {
  void* sums;
  int32_t* arrived;
};

// Quantized GEMV or GEMM, by the plan: y[t, r] (+)= sum of x[t, i] w[r, i] + bias[r] for up to
// three weights of the same codes and k, because those of one input (q k v, gate up) are too small
// one by one to fill a chip. Weights may be read before earlier work of the stream is done: wait()
// after they were written.
struct TileTarget {
  TileWeight w;
  float* y;
  int64_t ldy;
  const float* bias;  // or null
};
inline constexpr int kMostTargets = 3;
struct QuantGemm {
  TileTarget to[kMostTargets];
  int32_t count;
  HalfInputs x;
  bool add;
  GemmPlan plan;
  GemmWorkspace workspace;
};

// Rows [16 first, 16 (first + count)) of w as f16 [16 count, 128 stages], scales applied in f32;
// some finite number from column k on.
struct Dequantize {
  TileWeight w;
  int64_t first, count;  // tiles
  uint16_t* to;
};
// y[m, n] = x w^T of f16 in f32, without the scales of x, by cuBLAS. w [n, x.stride].
struct CublasGemmF16 {
  const uint16_t* w;
  int64_t n;
  HalfInputs x;
  float* y;
};
// y[t, r] (+)= x.scales[t] * sums[t, r] + bias[r] for r < n
struct GemmEpilogue {
  const float* sums;  // [m, lds]
  int64_t lds, n;
  const float* scales;  // [m]
  int64_t m;
  float* y;
  int64_t ldy;
  const float* bias;  // or null
  bool add;
};

// Codes of 8 bits by rows, for many tokens by cuBLAS: int8 (what integers of 8 bits mean) or e4m3.
// Rows of tiles [first, first + count), of 128 stages bytes each.
struct UnpackBytes {
  TileWeight w;
  int64_t first, count;
  void* to;
};
// e4m3 of f16 numbers that are exact in it.
struct HalfToE4M3 {
  const uint16_t* x;
  int64_t n;  // a multiple of 8
  uint8_t* to;
};
// sums[m, n] = x w^T, int32 of int8 or f32 of e4m3; w [n, k], x [m, k], n a multiple of 16 and k of
// 128.
struct CublasGemm8 {
  const void* w;
  const void* x;
  int64_t m, n, k;
  bool floats;
  void* sums;
};
// y[t, r] (+)= sums[t, r] * (scale of row first + r of w * scale of t), one fused multiply-add, +
// bias[r], for r < n.
struct Int8Epilogue {
  const void* sums;
  bool floats;
  int64_t lds, n, m;
  TileWeight w;
  int64_t first;
  const float* scales;
  float* y;
  int64_t ldy;
  const float* bias;
  bool add;
};
// Whether w can go by CublasGemm8.
inline bool has_bytes(const TileWeight& w) {
  return w.group_shift == kWholeRow && w.scale_type != Scales::kTwoLevels &&
         (w.codes == Codes::kE4M3 ||
          (w.codes == Codes::kInt8 && w.zeros == nullptr && w.zero == 128));
}

// MoE router: for each token of the logits [m, experts] the top `chosen` experts, of equal ones the
// first, in ascending order of their indices, and their weights, as runtime/forward/routing.h has
// it.
inline constexpr int32_t kMostChosen = 64;
struct Route {
  const float* router;
  int64_t m;
  int32_t experts, chosen;
  bool normalized, sigmoid;
  const float* bias;  // [experts], for the choice; or null
  int32_t groups, chosen_groups;
  double scale;
  int32_t* expert;  // [m, chosen]
  float* weight;    // [m, chosen]
};
// MoE GEMV: y[i, r] = row r of expert[i] times x[i / sharing], for one or two weights of each
// expert (gate and up), all of one shape and encoding: the sums of a QuantGemm.
struct ExpertWeights {
  const TileWeight* weights[2];  // [experts], on the device
  const float* bias[2];          // [experts, n], or null
  float* y[2];                   // [pairs, n], rows `ldy` apart
  int32_t count;
  TileWeight like;  // one of them
  int64_t ldy = 0;  // 0: n
};
struct MoeGemv {
  ExpertWeights of;
  const int32_t* expert;  // [pairs]; null: of heads, pair i has weight i % heads
  int64_t pairs, sharing;
  HalfInputs x;
  int32_t heads = 0;
};
// For many tokens: pairs sorted by expert, those of one in their order. place[i] is where pair i
// went, row[place[i]] = i / sharing; those of expert e are at [first[e], first[e + 1]).
struct SortPairs {
  const int32_t* expert;  // [pairs]
  int64_t pairs;
  int32_t experts, sharing;
  int32_t* place;  // [pairs]
  int32_t* row;    // [pairs]
  int32_t* first;  // [experts + 1]
};
// MoE GEMM (grouped GEMM) over pairs in that order: y[p] from x[row[p]], or from x[p] where `row`
// is null. For the per-head weights of MLA, `first` is null: every weight has `most` pairs. Sums
// are those of a QuantGemm with this plan, which has no split-K.
struct MoeGemm {
  ExpertWeights of;
  const int32_t* first;
  int32_t experts;
  int64_t most;  // pairs of one expert
  const int32_t* row;
  HalfInputs x;
  GemmPlan plan;  // 16 tokens, or kMostExpertTokens; of heads the latter
};
// y[t] += sum of weight[t, j] * x[place of t * chosen + j], in order
struct CombineExperts {
  const float* x;        // [m * chosen, n]
  const int32_t* place;  // [m * chosen], or null: in order
  const float* weight;   // [m, chosen]
  int64_t m, n;
  int32_t chosen;
  float* y;  // [m, n]
};
// y[rows[i]] += weights[rows[i], 0] * x[i], for rows that differ
struct AddRows {
  const float* x;  // [m, n]
  const int64_t* rows;
  const float* weights;  // rows `ldw` apart
  int64_t ldw, m, n;
  float* y;
};

// The same codes of int8 in bytes.
struct Int8Inputs {
  int8_t* values;  // [m, stride], 0 from column k on
  int64_t stride;  // a multiple of kStageColumns
  float* scales;   // [m]
  int64_t m;
  float fixed;

  Int8Inputs rows_from(int64_t first) const {
    if (values == nullptr) return *this;
    return {values + first * stride, stride, scales + first, m - first, fixed};
  }
};
// Whether products of such weights and of inputs rounded to int8 are sums of integers that fit
// int32: one scale a row, or two levels of scales, of which those of groups are factors of the sum.
inline bool takes_int8(const TileWeight& w) {
  const bool eight = w.codes == Codes::kInt8 && w.zeros == nullptr && w.group_shift == kWholeRow;
  const bool four = w.codes == Codes::kInt4 && w.group_shift != 0;
  const bool in_rows =
      w.group_shift == kWholeRow && (w.scale_type == Scales::kF16 || w.scale_type == Scales::kBF16);
  const int64_t most = eight ? 128 : 15, factor = w.scale_type == Scales::kTwoLevels ? 127 : 1;
  return (eight || four) && (in_rows || w.scale_type == Scales::kTwoLevels) &&
         w.k <= INT32_MAX / (127 * most * factor);
}
// y[t, r] (+)= float(sum of x[t, i] w[r, i]) * (scale of r * scale of t), one fused multiply-add,
// then + bias[r]: the bits of the CPU (runtime/cpu/int_matmul.h), where that does not cut a row.
struct Int8Gemm {
  TileTarget to[kMostTargets];
  int32_t count;
  Int8Inputs x;
  bool add;
  GemmPlan plan;
  GemmWorkspace workspace;
};
struct ToInt8 {
  const float* x;  // [m, n], rows `ldx` apart
  int64_t n;
  Int8Inputs to;
  int64_t ldx = 0;  // 0: n
};
struct NormToInt8 {
  const float* x;
  const float* weight;
  int64_t n;
  float eps;
  Int8Inputs to;
};

struct ToHalf {
  const float* x;  // [m, n], rows `ldx` apart
  int64_t n;
  HalfInputs to;
  int64_t ldx = 0;  // 0: n
};
// y = what x stands for when it is rounded to 8 bits (formats/encodings/input.h) with a scale for
// 128 columns of a token.
struct RoundInputs {
  const float* x;  // [m, n]
  int64_t m, n;
  bool floats;  // e4m3, else int8
  float* y;
};
struct NormToHalf {
  const float* x;  // [m, n]
  const float* weight;
  int64_t n;
  float eps;
  HalfInputs to;
};
// kClamped: gate and up within a limit of 7, gate sigmoid(1.702 gate) (up + 1)
enum class Activate : int32_t { kNone, kSilu, kGeluTanh, kGelu, kClamped };
struct ActivateToHalf {
  Activate how;
  float* gate;      // [m, n]: act(gate) * up on return
  const float* up;  // or null
  int64_t n;
  HalfInputs to;
};
struct ActivateToInt8 {
  Activate how;
  float* gate;
  const float* up;
  int64_t n;
  Int8Inputs to;
};
// y (+)= norm(x)
struct Norm {
  const float* x;
  const float* weight;
  int64_t m, n;
  float eps;
  float* y;  // may be x, unless it is added to
  bool add;
};
// x = limit tanh(x / limit)
struct Cap {
  float* x;  // [m, n]
  int64_t m, n;
  float limit;
};
// to[t] = scale * row tokens[t] of w, [m, k]
struct Embed {
  TileWeight w;
  const int32_t* tokens;
  int64_t m;
  float scale;
  float* to;
};
struct Gather {
  const float* x;  // [., n]
  const int64_t* rows;
  int64_t m, n;
  float* y;
};

// y[t] += sigmoid(gate[t]) * x[t]
struct AddGated {
  const float* x;  // [m, n]
  const float* gate;
  int64_t m, n;
  float* y;
};
// y[t, i] = x[t, i] for i < n
struct CopyColumns {
  const float* x;
  int64_t ldx, m, n;
  float* y;
  int64_t ldy;
};

// Where the tokens of a batch stand.
struct Positions {
  const int32_t* slot;  // [m]: of the cache
  const int32_t* at;    // [m]
  int64_t m;
};
enum class CacheType : int32_t { kF32, kF16, kBF16, kInt8, kFp8 };
// Keys or values of one attention: rows [page][head][16 tokens][head_dim]; int8 and fp8 with a
// scale a row. Token p of slot s is row p % 16 of page pages[s * pages_per_slot + p / 16]. Of
// latent attention keys are values as well (cached_form() of runtime/model/spec.h): values have no
// rows.
struct CachePlane {
  CacheType type;
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
PITH_BOTH constexpr int64_t most_chunks(int64_t key_heads) {
  return key_heads >= 8 ? 32 : key_heads <= 2 ? 128 : 64;
}
// Keys of a chunk, for a sequence of so many keys.
PITH_BOTH constexpr int64_t chunk_keys(int64_t keys, int64_t key_heads) {
  int64_t size = kChunkKeys;
  while (size * most_chunks(key_heads) < keys) size *= 2;
  return size;
}
// No sequence of `longest` keys or fewer has more.
constexpr int64_t chunks_within(int64_t longest, int64_t key_heads) {
  const int64_t chunks = (longest + kChunkKeys - 1) / kChunkKeys, most = most_chunks(key_heads);
  return chunks < most ? chunks : most;
}
// Sums of a chunk: of a row, their maximum, their total, and up to 16 bytes.
PITH_BOTH constexpr int64_t chunk_floats(int64_t head_dim) { return head_dim + 4; }
struct Attend {
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
  // next GEMM, if that is asked for. [m, heads + 1], 0 before and after.
  int32_t* arrived;
  HalfInputs halves;  // or no values
  Int8Inputs bytes;   // or no values
};

// Prefill attention (FlashAttention-2), in tiles of up to kTileQueries successive tokens of a
// sequence, on tensor cores: keys and values in f16, int8 or fp8, queries and probabilities rounded
// to f16. For head sizes that has_tiles() knows.
inline constexpr int64_t kTileQueries = 64;
struct QueryTile {
  int32_t row;    // of q and out, of its first token
  int32_t count;  // tokens
  int32_t slot;
  int32_t position;  // of its first token
};
struct AttendTiles {
  Cache cache;
  const QueryTile* tiles;
  int64_t count;
  const float* q;
  int64_t heads, window;
  float scale, cap;
  const float* sinks;
  float* out;
};
// Whether decode attention runs on tensor cores too.
constexpr bool has_pages(const Cache& c) {
  return !is_latent(c) && c.head_dim % 8 == 0 && c.keys.type != CacheType::kF32 &&
         c.values.type != CacheType::kF32;
}
constexpr bool has_tiles(const Cache& c) {
  const bool sized = c.head_dim == 64 || c.head_dim == 80 || c.head_dim == 96 ||
                     c.head_dim == 128 || c.head_dim == 256;
  const auto typed = [](CacheType t) { return t != CacheType::kF32 && t != CacheType::kBF16; };
  return !is_latent(c) && sized && typed(c.keys.type) && typed(c.values.type);
}
// Whether latent attention is on tensor cores: of DeepSeek's sizes. Of what comes out, the columns
// of what is rotated are not written then.
inline constexpr int64_t kLatentRank = 512, kLatentRotated = 64;
constexpr bool has_latent_tiles(const Cache& c) {
  return is_latent(c) && c.head_dim == kLatentRank + kLatentRotated &&
         c.keys.type != CacheType::kF32;
}

// The k largest of x[n], largest first, of equal ones the first; what is not a number comes before
// all. As keys: the upper half is the number, in an order of unsigned integers (key_float()), the
// lower the complement of where it stands.
inline constexpr int32_t kMostTop = 256;
struct Top {
  const float* x;
  int64_t n;
  int32_t k;
  uint64_t* workspace;  // top_k_workspace(n, k)
  uint64_t* to;         // [k]
};
inline constexpr int64_t kTopChunk = 2048;
constexpr int64_t top_k_workspace(int64_t n, int64_t k) {
  return 2 * ((n + kTopChunk - 1) / kTopChunk) * k;
}
// sums[i] = of x in the i-th kTopChunk, those behind `last` in that order: exp((x - top) /
// temperature).
struct MassBehind {
  const float* x;
  int64_t n;
  float top, last;
  int32_t last_at;
  double temperature;
  double* sums;
};
inline float key_float(uint64_t key) {
  const auto ordered = static_cast<uint32_t>(key >> 32);
  const uint32_t bits = ordered >> 31 != 0 ? ordered & 0x7fffffffu : ~ordered;
  float v;
  memcpy(&v, &bits, 4);
  return v;
}

// What Executor::score() asks for, of each row of logits [m, n].
struct Score {
  const float* logits;
  int64_t m, n;
  const int32_t* targets;
  const float* base;            // or null
  const double* base_log_sums;  // [m]
  double* log_sum;              // [m], and so on
  double* divergence;
  float* target;
  int32_t* top;
};

// All operations that work on a stream: X(name, its arguments). This list makes the table, the
// declarations of the launchers (launchers.h) and the table that counts memory
// (runtime/cuda/memory_plan.cc); a new operation is a struct above, a line here, and a .cu with
// `Status name(const Arguments&, Stream)`. gemm_tf32 is a Gemm whose factors may be rounded to 11
// bits; it and cublas_gemm_* are by cuBLAS, where that is there. The last are for compression:
// dense_algebra.h, gptq.h.
#define PITH_CUDA_OPS(X)              \
  X(repack_codes, RepackCodes)        \
  X(repack_pairs, RepackPairs)        \
  X(repack_zeros, RepackZeros)        \
  X(quant_gemm, QuantGemm)            \
  X(dequantize, Dequantize)           \
  X(cublas_gemm_f16, CublasGemmF16)   \
  X(gemm_tf32, Gemm<float>)           \
  X(cublas_gemm_8, CublasGemm8)       \
  X(unpack_bytes, UnpackBytes)        \
  X(half_to_e4m3, HalfToE4M3)         \
  X(int8_epilogue, Int8Epilogue)      \
  X(gemm_epilogue, GemmEpilogue)      \
  X(to_half, ToHalf)                  \
  X(round_inputs, RoundInputs)        \
  X(norm_to_half, NormToHalf)         \
  X(activate_to_half, ActivateToHalf) \
  X(int8_gemm, Int8Gemm)              \
  X(to_int8, ToInt8)                  \
  X(norm_to_int8, NormToInt8)         \
  X(activate_to_int8, ActivateToInt8) \
  X(norm, Norm)                       \
  X(cap, Cap)                         \
  X(embed, Embed)                     \
  X(gather, Gather)                   \
  X(add_rows, AddRows)                \
  X(add_gated, AddGated)              \
  X(copy_columns, CopyColumns)        \
  X(route, Route)                     \
  X(moe_gemv, MoeGemv)                \
  X(sort_pairs, SortPairs)            \
  X(moe_gemm, MoeGemm)                \
  X(combine_experts, CombineExperts)  \
  X(write_kv, WriteKv)                \
  X(write_latent_kv, WriteLatentKv)   \
  X(attend, Attend)                   \
  X(attend_tiles, AttendTiles)        \
  X(top, Top)                         \
  X(mass_behind, MassBehind)          \
  X(score, Score)                     \
  X(gemm_f32, Gemm<float>)            \
  X(gemm_f64, Gemm<double>)           \
  X(factor_tile, FactorTile)          \
  X(solve_tile, SolveTile)            \
  X(reorder, Reorder)                 \
  X(unit_upper, UnitUpper)            \
  X(f32_to_f64, F32ToF64)             \
  X(add_scaled, AddScaled)            \
  X(f64_to_f32, F64ToF32)             \
  X(channel_sums, ChannelSums)        \
  X(column_sums, ColumnSums)          \
  X(load_rows, LoadRows)              \
  X(sweep, Sweep)                     \
  X(descend, Descend)                 \
  X(from_codes, FromCodes)            \
  X(refit, Refit)

struct Ops {
  int32_t version;
  int32_t bytes;  // of this table

  Status (*allocate)(uint64_t bytes, void** to);  // zeroed
  void (*release)(void* p);
  Status (*memory)(uint64_t* free, uint64_t* total);
  Status (*chip)(Chip* to);
  Status (*make_stream)(Stream* to);
  void (*end_stream)(Stream stream);
  // From memory of the system, which is read before it returns.
  Status (*upload)(void* to, const void* from, uint64_t bytes, Stream stream);
  Status (*download)(void* to, const void* from, uint64_t bytes, Stream stream);
  Status (*copy)(void* to, const void* from, uint64_t bytes, Stream stream);  // on the device
  Status (*wait)(Stream stream);

  // What is asked for between the two is not done but kept, to be done by launch_graph as often as
  // it is called. No memory is asked for or copied in between.
  Status (*begin_graph)(Stream stream);
  Status (*end_graph)(Stream stream, Graph* to);
  Status (*launch_graph)(Graph graph, Stream stream);
  void (*release_graph)(Graph graph);

  bool (*has_cublas)();
  bool (*has_cublas_gemm_8)(bool floats);  // 8-bit floats need a device that has them

#define PITH_OP_POINTER(name, Arguments) Status (*name)(const Arguments& a, Stream stream);
  PITH_CUDA_OPS(PITH_OP_POINTER)
#undef PITH_OP_POINTER
};
inline constexpr int32_t kOpsVersion = 7;

}  // namespace pith::cuda
