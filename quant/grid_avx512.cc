// Grid kernels, avx512: see grid.h.
#ifndef PITH_SCALAR_ONLY
#include "quant/grid.h"

#include <bit>

#include "formats/encodings/int_group.h"

namespace pith {
namespace {
#include "quant/grid_body.h"
}  // namespace

const GridKernels kGridAvx512 = {range, project, codes, sweep, descend};

}  // namespace pith
#endif
