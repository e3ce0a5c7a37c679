#include "quant/grid.h"

#include <string_view>

#include "runtime/cpu/kernels.h"

namespace pith {

const GridKernels& grid_kernels() {
#ifndef PITH_SCALAR_ONLY
  static const std::string_view level = cpu_kernels().name;
  if (level == "avx512" || level == "amx") return kGridAvx512;
  if (level == "avx2" || level == "avxvnni") return kGridAvx2;
#endif
  return kGridScalar;
}

}  // namespace pith
