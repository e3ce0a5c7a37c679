// The kernels for AVX-VNNI, with the 256-bit products of AVX-512 VNNI.
#ifndef PITH_SCALAR_ONLY
#include "runtime/cpu/kernels.h"

namespace pith::test {
extern const CpuKernels kEmulatedAvxVnniKernels;
}
#define PITH_AVXVNNI_KERNELS test::kEmulatedAvxVnniKernels
#include "runtime/cpu/kernels/avxvnni.cc"
#endif
