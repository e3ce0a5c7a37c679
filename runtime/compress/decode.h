// Decoding of linears in rows, by the fastest kernels, and the sizes of the pieces that compression
// works in.
#pragma once

#include "runtime/model/model.h"

namespace pith {

// Rows of a linear as f32, by the fastest decoder there is: bit for bit what dense_rows gives.
void fast_rows(const Linear& linear, int64_t row, int64_t rows, float* out);

// Rows of a matrix that share a scale, so that they are worked on together. (That of a whole tensor
// is known beforehand.)
int64_t row_step(const Encoding& e, int64_t n, int64_t k);
// Rows of a matrix that are worked on as one piece.
int64_t slab_rows(const Encoding& e, int64_t n, int64_t k);

}  // namespace pith
