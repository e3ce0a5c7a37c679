// MoE layers and per-head linears on the device: many weights of one kind in one launch.
#pragma once

#include "runtime/cuda/gpu_gemm.h"
#include "runtime/forward/ops.h"

namespace pith {

class GpuMoe {
 public:
  GpuMoe(GpuContext& context, GpuGemm& gemm) : context_(context), gemm_(gemm) {}

  // All experts in one launch, without waiting for the choice. False where experts differ in kind
  // or too many are chosen: nothing was done.
  bool run(const MoeOp& op);

  // [m, heads, .], the numbers of one head `ld` behind those of the head before.
  struct Heads {
    float* data;
    int64_t ld;
  };
  // y[t, h] = linears[h](x[t, h]) for m tokens; `table` has the linears on the device.
  void run_heads(const GpuTable& table, const std::vector<Linear>& linears, int64_t m, Heads x,
                 Heads y);

 private:
  // Which experts the tokens go to: by pairs of a token and an expert, and where the pairs are
  // sorted by expert, in which order.
  struct Choice {
    int32_t* expert;
    float* weight;
    int32_t *place, *row, *first;  // or null
  };
  Choice choose(const MoeOp& op, const float* logits, int64_t m);
  void run_experts(const MoeOp& op, const Choice& choice, const cuda::HalfInputs& x,
                   MatrixRef<float> y);
  static void add_weight(cuda::ExpertWeights* of, const GpuTable& table, float* to);

  GpuContext& context_;
  GpuGemm& gemm_;
  GpuBuffer chosen_;
};

cuda::Activate activation_of(proto::Activation a);

}  // namespace pith
