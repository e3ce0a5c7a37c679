// The kernels for AMX, with a model of its instructions.
#ifndef PITH_SCALAR_ONLY
#include "runtime/cpu/kernels.h"

namespace pith::test {
extern const CpuKernels kEmulatedAmxKernels;
}
#define PITH_AMX_KERNELS test::kEmulatedAmxKernels
#define PITH_AMX_TILES "tests/support/amx_model.h"
#include "runtime/cpu/kernels/amx.cc"
#endif
