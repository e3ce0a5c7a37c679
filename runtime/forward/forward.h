// The forward pass of every model, over any executor.
#pragma once

#include "runtime/forward/executor.h"

namespace pith {

// What all layers of a pass have in common.
struct ForwardPass {
  Executor& executor;
  const Batch& batch;
  KvCache& cache;
};

// x: hidden states [m, hidden], in place through one layer. `attention_index` counts attention
// sublayers before it.
void forward_block(const ForwardPass& pass, const proto::ModelSpec& spec, const Block& block,
                   int attention_index, Tensor x);

// The same of one sublayer.
void forward_sublayer(const ForwardPass& pass, const proto::Sublayer& spec,
                      const SublayerWeights& w, int attention_index, Tensor x);

// The same through all blocks from `first_block` on, of whose attentions alone the cache is.
void forward_blocks(const ForwardPass& pass, const Model& model, int64_t first_block, Tensor x);

// Rows of the embedding, scaled as the model scales them. All token ids go through this function.
// Error(kUsage) where a token is not in the vocabulary.
void embed_tokens(Executor& executor, const proto::ModelSpec& spec, const Linear& embedding,
                  std::span<const int32_t> tokens, Tensor x);

// Embedding and all blocks: the hidden states [m, hidden] before the final norm, in
// TensorId::kHidden.
Tensor forward_hidden(Executor& executor, const Model& model, const Batch& batch, KvCache& cache);

// Logits [rows.size(), vocab] of the given rows of the hidden states, in TensorId::kLogits.
Tensor forward_head(Executor& executor, const Model& model, Tensor hidden,
                    std::span<const int64_t> rows);

// Both, as one pass of the executor: where a pass is repeated token by token.
Tensor forward_logits(Executor& executor, const Model& model, const Batch& batch, KvCache& cache,
                      std::span<const int64_t> rows);

int attention_count(const proto::ModelSpec& spec, int layers);  // in the first `layers` layers

}  // namespace pith
