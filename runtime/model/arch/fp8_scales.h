// FP8 weights of checkpoints: which tensor scales which, and how they become a weight of pith.
//
// A tensor of FP8 codes NAME [.., R, K] has its scales in NAME_scale_inv (DeepSeek, Qwen) or
// NAME_scale (compressed-tensors, FBGEMM, ModelOpt); w = scale * float(code) for both. The shape of
// the scales says their area:
//   one number                          the whole tensor
//   [.., R, 1] or [R]                   a row
//   [.., ceil(R/r), ceil(K/c)]          r x c numbers, r and c from weight_block_size (128 each)
// Stacked matrices [E, R, K] each have their own grid of blocks.
#pragma once

#include "formats/checkpoint.h"
#include "runtime/model/arch/arch.h"

namespace pith {

// Whether config.json says that its weights are FP8, in a way that is read here.
// Error(kUnsupported) naming the method where they are quantized otherwise.
bool is_fp8_checkpoint(const Checkpoint& checkpoint);

// Finds the scales of every weight in FP8, and checks their shapes. Error(kCorrupt) where a weight
// has none.
void find_fp8_scales(const Checkpoint& checkpoint, ImportedModel* model);

// The encoding of rows [row, row + rows) of the weight [n, k] that `slice` is: the same codes and
// scales where the slice keeps to their areas, and f32 where it cuts through blocks or rows.
Encoding fp8_encoding(const TensorSlice& slice, int64_t n, int64_t k, int64_t row, int64_t rows);
Weight fp8_rows(const Checkpoint& checkpoint, const TensorSlice& slice, int64_t n, int64_t k,
                int64_t row, int64_t rows);

}  // namespace pith
