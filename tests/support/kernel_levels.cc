#include "tests/support/kernel_levels.h"

#include <algorithm>
#include <vector>

namespace pith::test {

#ifdef PITH_EMULATED_LEVELS
extern const CpuKernels kEmulatedAvxVnniKernels;
extern const CpuKernels kEmulatedAmxKernels;
#endif

namespace {

std::vector<const CpuKernels*> find_levels() {
  const CpuKernels* const* levels = nullptr;
  const int count = cpu_kernel_levels(&levels);
  std::vector<const CpuKernels*> all(levels, levels + count);
#ifdef PITH_EMULATED_LEVELS
  if (std::ranges::count(all, &kAvx512Kernels) > 0)
    all.insert(all.begin(), {&kEmulatedAmxKernels, &kEmulatedAvxVnniKernels});
#endif
  return all;
}

}  // namespace

std::span<const CpuKernels* const> kernel_levels() {
  static const auto all = find_levels();
  return all;
}

}  // namespace pith::test
