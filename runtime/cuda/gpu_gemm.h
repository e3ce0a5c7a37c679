// Linears on the device: quantizing their inputs, and the choice of the kernel that multiplies them
// (runtime/cuda_kernels/cuda_ops.h has the kernels).
#pragma once

#include "runtime/cuda/gpu_context.h"

namespace pith {

// y of one of several linears of one input.
struct GemmTarget {
  const Linear* linear;
  MatrixRef<float> y;
};

class GpuGemm {
 public:
  using Targets = std::span<const GemmTarget>;

  explicit GpuGemm(GpuContext& context) : context_(context) {}

  // y (+)= x W^T + bias
  void run(const Linear& linear, MatrixRef<float> x, MatrixRef<float> y, bool accumulate);
  // Several linears of inputs that were quantized for them, in one launch where they are alike.
  void run_all(Targets to, const cuda::HalfInputs& x);
  void run(const Linear& linear, const cuda::HalfInputs& x, MatrixRef<float> y, bool accumulate);
  void run_int8(Targets to, const cuda::Int8Inputs& x, bool accumulate);

  // Whether all round their inputs in one way.
  static bool rounded_alike(Targets to);
  // Whether these are products of integers throughout.
  bool in_int8(Targets to) const;

  // x quantized as `linear` takes it.
  cuda::HalfInputs to_half(const Linear& linear, MatrixRef<float> x);
  cuda::Int8Inputs to_int8(const Linear& linear, MatrixRef<float> x);
  // Memory for quantized inputs [m, k] that a kernel will write. It holds one at a time.
  cuda::HalfInputs half_workspace(int64_t m, int64_t k, const InputEncoding& e = {}) {
    return workspace(inputs_, m, k, e);
  }
  cuda::Int8Inputs int8_workspace(const Linear& linear, int64_t m, int64_t k);

 private:
  struct Inputs {
    GpuBuffer values, scales;
  };
  cuda::HalfInputs workspace(Inputs& inputs, int64_t m, int64_t k, const InputEncoding& e = {});
  void multiply(const cuda::TileTarget& to, const cuda::HalfInputs& x, bool accumulate);
  void multiply_f16_by_cublas(const cuda::TileTarget& to, const cuda::HalfInputs& x,
                              bool accumulate);
  void multiply_8bit_by_cublas(const cuda::TileTarget& to, const void* x, const float* scales,
                               int64_t m, bool accumulate);
  // Whether there are so many tokens that cuBLAS is faster.
  bool for_cublas(const cuda::HalfInputs& x) const;
  template <class Gemm>
  void run_gemm(cuda::Status (*cuda::Ops::*op)(const Gemm&, cuda::Stream), Gemm gemm);
  template <class F>
  void by_pieces(const cuda::TileWeight& w, int64_t m, uint64_t bytes, F f);

  GpuContext& context_;
  Inputs inputs_, inner_inputs_;
  GpuBuffer partial_, arrived_, rounded_, inner_, piece_, bytes_, gemm_output_;
};

}  // namespace pith
