// Weights and linears as f32 [rows, k], by the fastest decoders there are. (The independent scalar
// ones, which define what bytes mean, are called reference_decode: formats/encodings/encoding.h,
// runtime/model/model.h.)
#pragma once

#include "runtime/cpu/kernels.h"
#include "runtime/model/model.h"

namespace pith {

// Rows [row, row + rows) of a weight: bit for bit what reference_decode gives. An encoding without
// a kernel is decoded by its reference.
void decode_rows(const CpuKernels& kernels, const Weight& w, int64_t row, int64_t rows, float* out);
void decode_rows(const Weight& w, int64_t row, int64_t rows, float* out);

// Rows of the sum of a linear's terms. Low-rank terms are multiplied by the gemm kernel: a row does
// not depend on the rows that it is decoded with, but its last bits may depend on the instruction
// level and differ from those of reference_decode.
void decode_rows(const Linear& linear, int64_t row, int64_t rows, float* out);

}  // namespace pith
