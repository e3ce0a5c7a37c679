// Attention sublayers on the device, after their projections: norms of heads, RoPE, the KV cache,
// and the choice between decode and prefill attention (runtime/cuda_kernels/cuda_ops.h has the
// kernels).
#pragma once

#include "runtime/cuda/gpu_cache.h"
#include "runtime/cuda/gpu_moe.h"
#include "runtime/cuda/step_inputs.h"
#include "runtime/forward/ops.h"

namespace pith {

class GpuAttention {
 public:
  GpuAttention(GpuContext& context, StepInputs& inputs, GpuMoe& moe)
      : context_(context), inputs_(inputs), moe_(moe) {}

  void run(const RopeOp& op);
  void run(const StoreKvOp& op);
  void run(const AttentionOp& op);

  // Where the output goes besides `attended`: quantized for the output projection. One of the two,
  // or none.
  struct Quantized {
    cuda::HalfInputs half = {};
    cuda::Int8Inputs int8 = {};
  };
  // All of an AttentionLinearOp before its output projection. Whether the output was quantized, if
  // that was asked for.
  bool run(const AttentionLinearOp& op, const Quantized& to);

  // All of a LatentAttentionOp before its output projection: the linears of all heads in one
  // launch, RoPE and the cache in another. False where heads differ in kind: nothing was done.
  bool run(const LatentAttentionOp& op);

 private:
  struct Call {
    AttentionShape shape;
    cuda::Cache cache;
    cuda::Positions at;
    const float* q;
    const float* sinks;  // or null
    int64_t chunks;      // of keys, at most
    float* out;
    Quantized quantized;
  };
  // A write of k and v at the places of the batch, which inputs_ then has; queries stay.
  cuda::WriteKv write_of(const StoreKvOp& op);
  // Whether the output was quantized.
  bool run_attention(const AttentionOp& op, const Quantized& to);
  void run_decode(const Call& call);
  template <class WriteKv>
  void bind_rope(WriteKv* write, const proto::Rope& rope, const Batch& batch);
  cuda::HeadNorm head_norm(const proto::Norm& spec, const NormWeights& norm, GpuWeights::Use use);
  int64_t max_chunks_of(const cuda::Cache& c) const {
    return std::min(inputs_.chunks(), cuda::max_chunks(c.heads));
  }

  GpuContext& context_;
  StepInputs& inputs_;
  GpuMoe& moe_;
  GpuBuffer sums_, arrived_;
};

}  // namespace pith
