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

void InputCapture::run(FunctionRef<void()> pass, FunctionRef<void(size_t, Activation)> take) {
  take_ = &take;
  taken_ = 0;
  done_ = false;
  pass();
  if (taken_ < names_.size() && experts_.empty())
    fail(ErrorKind::kUsage, "{} did not run on the calibration text", names_.front());
}

void InputCapture::norm(const NormWeights& norm, Activation x, Activation y, bool add) {
  if (!done_) inner_.norm(norm, x, y, add);
}
void InputCapture::linear(const Linear& linear, Activation x, Activation y, bool add) {
  if (done_) return;
  const auto found = std::ranges::find(names_, linear.name);
  if (found == names_.end()) return inner_.linear(linear, x, y, add);
  (*take_)(static_cast<size_t>(found - names_.begin()), x);
  ++taken_;
  done_ = stop_ && (taken_ == names_.size() || !experts_.empty());
  if (!stop_) inner_.linear(linear, x, y, add);
}
void InputCapture::rope(const proto::Rope& rope, int64_t head_dim, const Batch& batch,
                        Activation x) {
  if (!done_) inner_.rope(rope, head_dim, batch, x);
}
void InputCapture::attention(const proto::Attention& spec, const std::vector<float>& sinks,
                             int index, const Batch& batch, KvCache& cache, Activation q,
                             Activation k, Activation v, Activation out) {
  if (!done_) inner_.attention(spec, sinks, index, batch, cache, q, k, v, out);
}
void InputCapture::activate(proto::Activation activation, Activation gate, Activation up) {
  if (!done_) inner_.activate(activation, gate, up);
}
void InputCapture::moe(const proto::Moe& spec, const MoeWeights& weights, Activation x,
                       Activation y) {
  if (done_) return;
  if (experts_.empty()) return Executor::moe(spec, weights, x, y);
  const std::vector<ExpertTokens> tokens = route_rows(spec, weights, x);
  for (size_t e = 0; e < tokens.size(); ++e) {
    if (!experts_.contains(of_expert(weights.experts[e].up.name))) continue;
    done_ = false;
    run_expert(spec.expert(), weights.experts[e], tokens[e], x, y);
  }
  done_ = true;
}
void InputCapture::gather(Activation x, std::span<const int64_t> rows, Activation y) {
  if (!done_) inner_.gather(x, rows, y);
}
void InputCapture::add_rows(Activation x, std::span<const int64_t> rows,
                            std::span<const float> weights, Activation y) {
  if (!done_) inner_.add_rows(x, rows, weights, y);
}
void InputCapture::add_gated(Activation x, Activation gate, Activation y) {
  if (!done_) inner_.add_gated(x, gate, y);
}
void InputCapture::copy_columns(Activation x, int64_t from, Activation y, int64_t to,
                                int64_t count) {
  if (!done_) inner_.copy_columns(x, from, y, to, count);
}

}  // namespace pith
