// Dispatch from a run-time number format to the kernel instance for it.
#pragma once

#include "runtime/cuda_kernels/gemm/weight_tiles.h"
#include "runtime/cuda_kernels/refuse.h"

namespace pith::cuda {
namespace {

template <NumberFormat format_>
struct OfFormat {
  static constexpr NumberFormat format = format_;
};

// run(OfFormat<format>())
template <class Run>
Status by_format(NumberFormat format, Run run) {
  switch (format) {
    case NumberFormat::kInt2:
      return run(OfFormat<NumberFormat::kInt2>());
    case NumberFormat::kInt3:
      return run(OfFormat<NumberFormat::kInt3>());
    case NumberFormat::kInt4:
      return run(OfFormat<NumberFormat::kInt4>());
    case NumberFormat::kInt5:
      return run(OfFormat<NumberFormat::kInt5>());
    case NumberFormat::kInt6:
      return run(OfFormat<NumberFormat::kInt6>());
    case NumberFormat::kInt8:
      return run(OfFormat<NumberFormat::kInt8>());
    case NumberFormat::kNf4:
      return run(OfFormat<NumberFormat::kNf4>());
    case NumberFormat::kTcq2:
      return run(OfFormat<NumberFormat::kTcq2>());
    case NumberFormat::kTcq3:
      return run(OfFormat<NumberFormat::kTcq3>());
    case NumberFormat::kTcq4:
      return run(OfFormat<NumberFormat::kTcq4>());
    case NumberFormat::kE2M1:
      return run(OfFormat<NumberFormat::kE2M1>());
    case NumberFormat::kE4M3:
      return run(OfFormat<NumberFormat::kE4M3>());
    case NumberFormat::kE5M2:
      return run(OfFormat<NumberFormat::kE5M2>());
    case NumberFormat::kF16:
      return run(OfFormat<NumberFormat::kF16>());
    case NumberFormat::kBF16:
      return run(OfFormat<NumberFormat::kBF16>());
    default:
      return refuse("no kernel for tiles of format %ld", format);
  }
}

}  // namespace
}  // namespace pith::cuda
