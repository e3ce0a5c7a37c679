// Linear algebra in the host's memory: f32 by the matrix kernels (kernels.h), f64 by core/linalg.h.
// Its own state is none, so that any number of threads may use it.
#pragma once

#include "runtime/algebra/algebra.h"

namespace pith {

Algebra& cpu_algebra();

}  // namespace pith
