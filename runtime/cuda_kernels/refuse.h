// Why a launcher does not take its arguments: the operation and the values that are wrong.
#pragma once

#include <cstdio>

#include "runtime/cuda_kernels/status.h"

namespace pith::cuda {

// `format` as printf has it; integers are given as int64_t and shown by %ld. The text is the
// calling thread's own, and stays until its next refusal.
template <class... Values>
Status refuse(const char* format, Values... values) {
  thread_local char text[160];
  std::snprintf(text, sizeof text, format, static_cast<long>(values)...);
  return text;
}

}  // namespace pith::cuda
