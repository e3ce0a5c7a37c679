// The peak of the processor, and the share of a model's weights that a token takes part in: bench
// compares with them, quantize estimates times by them.
#pragma once

#include <cstdint>

#include "runtime/model/spec.h"

namespace pith::tools {

// Operations per second on all threads of a kernel that does nothing else (CpuKernels::int8_peak,
// f32_peak), as if nothing else ran: by the processor time of the threads, which all run at once.
double peak_operations(double (*run)(int64_t rounds));

// The share of tokens that are multiplied with this linear, on average: below 1 for experts.
double share_of_tokens(const proto::ModelSpec& spec, const LinearInfo& info);

}  // namespace pith::tools
