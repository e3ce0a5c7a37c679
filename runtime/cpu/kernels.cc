#include "runtime/cpu/kernels.h"

#ifndef PITH_SCALAR_ONLY
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cstdlib>
#include <string>
#include <vector>

#include "core/error.h"

namespace pith {
namespace {

#ifndef PITH_SCALAR_ONLY
// Bits of cpuid that __builtin_cpu_supports of older compilers does not know.
struct Cpuid {
  unsigned a = 0, b = 0, c = 0, d = 0;
  Cpuid(unsigned leaf, unsigned subleaf) { __get_cpuid_count(leaf, subleaf, &a, &b, &c, &d); }
};
bool has_f16c() { return (Cpuid(1, 0).c & bit_F16C) != 0; }
bool has_avx_vnni() { return (Cpuid(7, 1).a & 1u << 4) != 0; }
// AMX with products of int8, and the system's leave to use its registers, which a process asks for
// once (arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA)).
bool has_amx() {
  constexpr unsigned kTiles = 1u << 24, kInt8 = 1u << 25;
  if ((~Cpuid(7, 0).d & (kTiles | kInt8)) != 0) return false;
  return ::syscall(SYS_arch_prctl, 0x1023, 18) == 0;
}
#endif

std::vector<const CpuKernels*> find_levels() {
  std::vector<const CpuKernels*> levels;
#ifndef PITH_SCALAR_ONLY
  __builtin_cpu_init();  // asks the system too: whether it saves the wide registers
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
  if (avx512 && has_amx()) levels.push_back(&kAmxKernels);
  if (avx512) levels.push_back(&kAvx512Kernels);
  if (avx2 && has_avx_vnni()) levels.push_back(&kAvxVnniKernels);
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
