// Rounds the result of every operation to bf16: what a runtime that keeps its activations in bf16
// computes. The divergence of a model in bf16 from itself in f32 is the noise floor of an
// evaluation.
#pragma once

#include <vector>

#include "runtime/forward/forwarding_executor.h"

namespace pith {

class Bf16Executor final : public ForwardingExecutor {
 public:
  using ForwardingExecutor::ForwardingExecutor;

  void embed(const Linear& table, std::span<const int32_t> tokens, float scale,
             Activation x) override;
  void norm(const NormWeights& norm, Activation x, Activation y, bool add) override;
  void linear(const Linear& linear, Activation x, Activation y, bool add) override;
  void rope(const proto::Rope& rope, int64_t head_dim, const Batch& batch, Activation x) override;
  void attention(const proto::Attention& spec, const FloatVector& sinks, int index,
                 const Batch& batch, KvCache& cache, Activation q, Activation k, Activation v,
                 Activation out) override;
  void activate(proto::Activation activation, Activation gate, Activation up) override;
  void add_gated(Activation x, Activation gate, Activation y) override;
  void cap(Activation x, float limit) override;

 private:
  void round(Activation x);
  std::vector<float> host_;
};

}  // namespace pith
