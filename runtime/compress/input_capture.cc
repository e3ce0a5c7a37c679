#include "runtime/compress/input_capture.h"

#include <algorithm>

#include "core/error.h"

namespace pith {
namespace {

std::string of_expert(const std::string& linear) {  // "layers.3.mlp.experts.7."
  return linear.substr(0, linear.rfind('.') + 1);
}

}  // namespace

InputCapture::InputCapture(Executor& inner, std::span<const std::string> names, bool stop)
    : ForwardingExecutor(inner), names_(names), stop_(stop) {
  if (names.front().find(".experts.") == std::string::npos) return;
  for (const auto& n : names) experts_.insert(of_expert(n));
}

void InputCapture::run(FunctionRef<void()> pass, FunctionRef<void(size_t, Tensor)> take) {
  take_ = &take;
  taken_ = 0;
  done_ = false;
  pass();
  if (taken_ < names_.size() && experts_.empty())
    fail(ErrorKind::kUsage, "{} did not run on the calibration text", names_.front());
}

void InputCapture::run(const Op& op) {
  if (done_) return;
  if (const auto* moe = std::get_if<MoeOp>(&op); moe != nullptr && !experts_.empty())
    return run_experts(*moe);
  if (const auto* linear = std::get_if<LinearOp>(&op)) {
    const auto found = std::ranges::find(names_, linear->linear->name);
    if (found != names_.end()) {
      (*take_)(static_cast<size_t>(found - names_.begin()), linear->x);
      ++taken_;
      done_ = stop_ && (taken_ == names_.size() || !experts_.empty());
      if (stop_) return;
    }
  }
  ForwardingExecutor::run(op);
}

// An MoE layer asks for a choice of experts that was not made.
void InputCapture::read(Tensor x, std::span<float> to) {
  if (!done_) return inner_.read(x, to);
  std::ranges::fill(to, 0.0f);
}

void InputCapture::run_experts(const MoeOp& op) {
  const Routing routing = route_tokens(op, *this);
  for (size_t e = 0; e < routing.rows.size(); ++e) {
    if (!experts_.contains(of_expert(op.weights->experts[e].up.name))) continue;
    done_ = false;
    run_expert(op, routing, static_cast<int64_t>(e), *this);
  }
  done_ = true;
}

}  // namespace pith
