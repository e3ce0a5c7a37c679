// Grid kernels, scalar: see grid.h.
#include "quant/grid.h"

#include <bit>

#include "formats/encodings/int_group.h"

namespace pith {
namespace {
#include "quant/grid_body.h"
}  // namespace

const GridKernels kGridScalar = {range, project, codes, sweep, descend};

}  // namespace pith
