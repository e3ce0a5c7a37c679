// FP8 weights of checkpoints: finds the scales of each tensor and makes a weight of both.
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

// Whether config.json declares FP8 weights of a supported kind. Error(kUnsupported) naming the
// method where they are quantized otherwise.
bool is_fp8_checkpoint(const Checkpoint& checkpoint);

// Finds the scales of every weight in FP8, and checks their shapes. Error(kCorrupt) where a weight
// has none.
void find_fp8_scales(const Checkpoint& checkpoint, ImportedModel* model);

// The encoding of rows [row, row + rows) of the weight [n, k] that `slice` describes: the codes and
// scales of the checkpoint where the slice consists of whole scale areas, f32 where it cuts through
// blocks or rows.
Encoding fp8_encoding(const TensorSlice& slice, int64_t n, int64_t k, int64_t row, int64_t rows);
Weight fp8_rows(const Checkpoint& checkpoint, const TensorSlice& slice, int64_t n, int64_t k,
                int64_t row, int64_t rows);

}  // namespace pith
