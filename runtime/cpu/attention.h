// Attention over cached keys and values.
#pragma once

#include "core/matrix.h"
#include "runtime/cpu/kv_cache.h"
#include "runtime/forward/ops.h"

namespace pith {

// Writes k and v [m, kv_heads * head_dim] of the batch's tokens to attention `index` of the cache.
void store_kv(const CpuKernels& kernels, CpuKvStorage& cache, int index, const Batch& batch,
              MatrixRef<const float> k, MatrixRef<const float> v);

struct AttentionCall {
  const AttentionShape& shape;
  const FloatVector* sinks;  // [heads]; null or empty: none
  CpuKvStorage& cache;
  int index;  // in the cache
  const Batch& batch;
  MatrixRef<const float> q;
  MatrixRef<float> out;
};

// Online softmax (Milakov and Gimelshein 2018) over blocks of 64 keys, one after the other, in f32
// throughout. A tile is the queries of all heads that share a key head, up to 64 rows: what is
// cached is read and decoded once for all of them. Blocks make chunks, whose sums are joined in
// order; where there are few tiles (decoding), threads share out the chunks. Blocks and chunks are
// counted from position 0, so that a row is the same bits whichever rows stand beside it, however a
// prompt was cut, and on any number of threads. Sinks join in at the end.
void run_attention(const CpuKernels& kernels, const AttentionCall& call);

}  // namespace pith
