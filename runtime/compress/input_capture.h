// An executor that shows the inputs of linears: of one, or of one of each of some heads, and with
// `stop` does nothing after the last of them; or of one of each of some experts of an MoE layer, of
// which no others run.
#pragma once

#include <set>
#include <span>
#include <string>

#include "runtime/forward/forwarding_executor.h"

namespace pith {

class InputCapture final : public ForwardingExecutor {
 public:
  // `names`: of linears; they stay where they are.
  InputCapture(Executor& inner, std::span<const std::string> names, bool stop);

  // Runs `pass`, which is to come to the linears, and calls take(which, input) there. Experts may
  // get none. Error(kUsage) where another linear did not run.
  void run(FunctionRef<void()> pass, FunctionRef<void(size_t, Tensor)> take);

  void run(const Op& op) override;
  void read(Tensor x, std::span<float> to) override;

 private:
  void run_experts(const MoeOp& op);

  const std::span<const std::string> names_;
  std::set<std::string> experts_;
  const FunctionRef<void(size_t, Tensor)>* take_ = nullptr;
  size_t taken_ = 0;
  bool stop_, done_ = false;
};

}  // namespace pith
