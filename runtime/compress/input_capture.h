// An executor that gives the inputs of linears away: of one or one of each of some heads, and does
// nothing from the last on if `stop`; or of one of each of some experts of an MoE layer, and runs
// no more of that than it takes.
#pragma once

#include <set>
#include <span>
#include <string>
#include <vector>

#include "runtime/forward/forwarding_executor.h"

namespace pith {

class InputCapture final : public ForwardingExecutor {
 public:
  // `names`: of linears; they stay where they are.
  InputCapture(Executor& inner, std::span<const std::string> names, bool stop);

  // Runs `pass`, which is to come to the linears, and calls take(which, input) there. Experts may
  // get none. Error(kUsage) where another linear did not run.
  void run(FunctionRef<void()> pass, FunctionRef<void(size_t, Activation)> take);

  void norm(const NormWeights& norm, Activation x, Activation y, bool add) override;
  void linear(const Linear& linear, Activation x, Activation y, bool add) override;
  void rope(const proto::Rope& rope, int64_t head_dim, const Batch& batch, Activation x) override;
  void attention(const proto::Attention& spec, const std::vector<float>& sinks, int index,
                 const Batch& batch, KvCache& cache, Activation q, Activation k, Activation v,
                 Activation out) override;
  void activate(proto::Activation activation, Activation gate, Activation up) override;
  void moe(const proto::Moe& spec, const MoeWeights& weights, Activation x, Activation y) override;
  void gather(Activation x, std::span<const int64_t> rows, Activation y) override;
  void add_rows(Activation x, std::span<const int64_t> rows, std::span<const float> weights,
                Activation y) override;
  void add_gated(Activation x, Activation gate, Activation y) override;
  void copy_columns(Activation x, int64_t from, Activation y, int64_t to, int64_t count) override;

 private:
  const std::span<const std::string> names_;
  std::set<std::string> experts_;
  const FunctionRef<void(size_t, Activation)>* take_ = nullptr;
  size_t taken_ = 0;
  bool stop_, done_ = false;
};

}  // namespace pith
