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

  void run(const Op& op) override;

 private:
  std::vector<float> host_;
};

}  // namespace pith
