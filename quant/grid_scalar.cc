// Grid kernels, scalar: see grid.h.
#include "quant/grid.h"

#include <bit>

#include "formats/encodings/int_group.h"

namespace pith {
namespace {
#include "quant/grid_body.h"

int64_t select_within(const float* x, int64_t n, float limit, uint16_t* which) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    which[count] = static_cast<uint16_t>(i);
    count += x[i] <= limit ? 1 : 0;
  }
  return count;
}
}  // namespace

const GridKernels kGridScalar = {range,  project, codes,        sweep,         descend,
                                 branch, least,   count_within, select_within, advance};

}  // namespace pith
