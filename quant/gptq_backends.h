// Where GPTQ's rows are rounded: the steps that are no linear algebra, by backend.
#pragma once

#include <memory>

#include "quant/gptq.h"

namespace pith {

class GpuAlgebra;

// An empty factor whose rows are rounded where the algebra works.
std::unique_ptr<GptqFactor> gptq_backend(Algebra& algebra);
std::unique_ptr<GptqFactor> gptq_on_host();
std::unique_ptr<GptqFactor> gptq_on_gpu(GpuAlgebra& algebra);

// Refinement (gptq.h) by `rows`, which has refit() for scales and descend() for codes.
template <class Rows>
void refine_rows(Rows& rows, int count, bool own_scales) {
  for (int i = 0; i < count; ++i) {
    if (own_scales) rows.refit();
    rows.descend();
  }
  if (count > 0 && own_scales) rows.refit();
}

}  // namespace pith
