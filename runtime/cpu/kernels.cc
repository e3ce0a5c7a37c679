#include "runtime/cpu/kernels.h"

#ifndef PITH_SCALAR_ONLY
#include <cpuid.h>
#endif

#include <cstdlib>
#include <string>
#include <vector>

#include "core/error.h"

namespace pith {
namespace {

#ifndef PITH_SCALAR_ONLY
bool has_f16c() {  // __builtin_cpu_supports of clang 14 does not know it
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

std::vector<const CpuKernels*> find_levels() {
  std::vector<const CpuKernels*> levels;
#ifndef PITH_SCALAR_ONLY
  __builtin_cpu_init();  // asks the system too: whether it saves the wide registers
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vnni")) {
    levels.push_back(&kAvx512Kernels);
  }
  if (avx2) levels.push_back(&kAvx2Kernels);
#endif
  levels.push_back(&kScalarKernels);
  return levels;
}

const std::vector<const CpuKernels*>& levels() {
  static const auto found = find_levels();
  return found;
}

const CpuKernels& choose() {
  const char* wanted = std::getenv("PITH_CPU");
  if (wanted == nullptr || *wanted == 0) return *levels().front();
  std::string names;
  for (const auto* level : levels()) {
    if (std::string(level->name) == wanted) return *level;
    names += std::string(names.empty() ? "" : ", ") + level->name;
  }
  fail(ErrorKind::kUsage, "PITH_CPU={}: this processor has {}", wanted, names);
}

}  // namespace

const CpuKernels& cpu_kernels() {
  static const CpuKernels& chosen = choose();
  return chosen;
}

int cpu_kernel_levels(const CpuKernels* const** to) {
  *to = levels().data();
  return static_cast<int>(levels().size());
}

}  // namespace pith
