#include "runtime/compress/calibration.h"

#include <cmath>

#include "core/error.h"
#include "core/interrupt.h"
#include "core/parallel.h"
#include "runtime/forward.h"

namespace pith {

void CalibratingExecutor::linear(const Linear& linear, Activation x, Activation y, bool add) {
  if (needs_.input_squares) {
    auto& s = statistics_[linear.name];
    s.mean_square.resize(static_cast<size_t>(x.n));
    host_.resize(static_cast<size_t>(x.m * x.n));
    inner_.read(x, host_);
    const auto before = static_cast<double>(s.tokens), after = static_cast<double>(s.tokens + x.m);
    // Columns are shared out; each is summed over its rows in order.
    parallel_ranges(x.n, 64, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c) {
        double sum = 0;
        for (int64_t r = 0; r < x.m; ++r) {
          const auto v = static_cast<double>(host_[static_cast<size_t>(r * x.n + c)]);
          sum += v * v;
        }
        if (!std::isfinite(sum)) {
          fail(ErrorKind::kNumeric, "{}: its input {} is not finite on the calibration text",
               linear.name, c);
        }
        double& mean = s.mean_square[static_cast<size_t>(c)];
        mean = mean * (before / after) + sum / after;
      }
    });
    s.tokens += x.m;
  }
  inner_.linear(linear, x, y, add);
}

CalibrationStates::CalibrationStates(Executor& executor, const proto::ModelSpec& spec,
                                     const Linear& embedding,
                                     std::vector<std::vector<int32_t>> windows)
    : windows_(std::move(windows)) {
  const auto hidden = static_cast<int64_t>(spec.hidden());
  for (const auto& w : windows_) {
    const Activation x = executor.buffer(Slot::kHidden, static_cast<int64_t>(w.size()), hidden);
    executor.embed(embedding, w, x);
    auto& state = states_.emplace_back(static_cast<size_t>(x.m * x.n));
    executor.read(x, state);
  }
}

void CalibrationStates::run(Executor& executor, const proto::ModelSpec& spec, const Block& block,
                            bool keep) {
  // A model of this one layer, so that its cache has no other.
  proto::ModelSpec alone;
  *alone.add_layers() = spec.layers(block.layer);
  Block moved = block;  // shares the weights' bytes
  moved.layer = 0;
  std::unique_ptr<KvCache> cache;
  for (size_t i = 0; i < windows_.size(); ++i) {
    check_interrupt();
    const auto m = static_cast<int64_t>(windows_[i].size());
    if (!cache || cache->length() < m) cache = executor.make_cache(alone, 1, m, KvType::kF32);
    const Activation x = executor.buffer(Slot::kHidden, m, static_cast<int64_t>(spec.hidden()));
    executor.write(states_[i], x);
    const Segment segment{0, 0, m};
    forward_block(executor, alone, moved, 0, {windows_[i], std::span(&segment, 1)}, *cache, x);
    if (keep) executor.read(x, states_[i]);
  }
}

uint64_t CalibrationStates::bytes() const {
  uint64_t total = 0;
  for (const auto& s : states_) total += s.size() * sizeof(float);
  return total;
}

}  // namespace pith
