#include "runtime/cuda_kernels/gemm/launch_gemm.cuh"

namespace pith::cuda {

Status gemm_int8(const Int8Gemm& a, Stream stream) {
  for (int i = 0; i < a.count; ++i) {
    const TileWeight& w = a.to[i].w;
    if (!takes_int8(w))
      return refuse("int8_gemm: format %ld in groups of %ld", w.format,
                    int64_t{1} << w.group_shift);
  }
  if (a.to[0].w.format == NumberFormat::kInt4)
    return run_gemm<Int8Math<NumberFormat::kInt4>>(a, stream);
  return run_gemm<Int8Math<NumberFormat::kInt8>>(a, stream);
}

}  // namespace pith::cuda
