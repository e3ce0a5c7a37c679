// Dispatch from a run-time code type to the kernel instance for it.
#pragma once

#include "runtime/cuda_kernels/ops.h"

namespace pith::cuda {
namespace {

template <Codes codes_>
struct OfCodes {
  static constexpr Codes codes = codes_;
};

// run(OfCodes<codes>())
template <class Run>
Status by_codes(Codes codes, Run run) {
  switch (codes) {
    case Codes::kInt2:
      return run(OfCodes<Codes::kInt2>());
    case Codes::kInt3:
      return run(OfCodes<Codes::kInt3>());
    case Codes::kInt4:
      return run(OfCodes<Codes::kInt4>());
    case Codes::kInt5:
      return run(OfCodes<Codes::kInt5>());
    case Codes::kInt6:
      return run(OfCodes<Codes::kInt6>());
    case Codes::kInt8:
      return run(OfCodes<Codes::kInt8>());
    case Codes::kNf4:
      return run(OfCodes<Codes::kNf4>());
    case Codes::kE2M1:
      return run(OfCodes<Codes::kE2M1>());
    case Codes::kE4M3:
      return run(OfCodes<Codes::kE4M3>());
    case Codes::kE5M2:
      return run(OfCodes<Codes::kE5M2>());
    case Codes::kF16:
      return run(OfCodes<Codes::kF16>());
    default:
      return run(OfCodes<Codes::kBF16>());
  }
}

}  // namespace
}  // namespace pith::cuda
