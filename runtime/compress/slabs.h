// The pieces of rows that compression works in.
#pragma once

#include "runtime/model/model.h"

namespace pith {

// Rows of a matrix that share a scale, so that they are worked on together. (The scale of a whole
// tensor is known beforehand.)
int64_t row_step(const Encoding& e, int64_t n, int64_t k);
// Rows of a matrix that are worked on as one piece: about 2^18 weights.
int64_t slab_rows(const Encoding& e, int64_t n, int64_t k);
// The same of a linear: whole steps of each of its weights with n rows.
int64_t slab_rows(const Linear& linear);

}  // namespace pith
