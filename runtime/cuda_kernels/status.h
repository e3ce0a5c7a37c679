// What a function of ops.h returns: null, or what went wrong.
#pragma once

namespace pith::cuda {

inline constexpr char kOutOfMemory[] = "out of memory";  // of allocate(); nothing else returns it

}  // namespace pith::cuda
