// What every function of cuda_ops.h takes and returns.
#pragma once

namespace pith::cuda {

using Stream = void*;
using Graph = void*;
using Status = const char*;  // null, or what went wrong

inline constexpr char kOutOfMemory[] = "out of memory";  // of allocate(); nothing else returns it

}  // namespace pith::cuda
