// The executor of this machine's processor. Activations are f32; sums of a linear layer run over k
// in an order that depends on its shape and on m alone, never on threads: rows of the weight are
// shared out, k is not.
#pragma once

#include <cstdint>
#include <memory>

#include "runtime/forward/executor.h"

namespace pith {

// How weights of integers whose layers do not round their inputs themselves are multiplied.
enum class CpuInputs : uint8_t {
  kF32,   // activations as they are
  kInt8,  // activations rounded on the fly, one scale for 32 columns (16 where the weight's groups
          // are so short): several times faster, for an error like that of an 8-bit weight
};

// Never fails.
std::unique_ptr<Executor> make_cpu_executor(CpuInputs inputs = CpuInputs::kF32);

}  // namespace pith
