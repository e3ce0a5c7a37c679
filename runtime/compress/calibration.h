// What compression learns by running the model on text: statistics of the inputs of linear layers.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "runtime/forwarding_executor.h"

namespace pith {

struct StatisticsNeeds {
  bool input_squares = false;  // mean of x^2 per input channel
  bool any() const { return input_squares; }
};

struct InputStatistics {
  int64_t tokens = 0;
  std::vector<double> mean_square;  // [k], a running mean: no count of tokens overflows it
};

// By name of the linear.
using BlockStatistics = std::map<std::string, InputStatistics>;

// Passes every operation on to another executor and looks at the inputs of linear layers on the
// way. Error(kNumeric) naming the layer where an input is not finite.
class CalibratingExecutor final : public ForwardingExecutor {
 public:
  CalibratingExecutor(Executor& inner, const StatisticsNeeds& needs)
      : ForwardingExecutor(inner), needs_(needs) {}

  BlockStatistics take() { return std::exchange(statistics_, {}); }
  void linear(const Linear& linear, Activation x, Activation y, bool add) override;

 private:
  StatisticsNeeds needs_;
  BlockStatistics statistics_;
  std::vector<float> host_;
};

// Hidden states of calibration windows between two blocks.
class CalibrationStates {
 public:
  // Embeds the windows.
  CalibrationStates(Executor& executor, const proto::ModelSpec& spec, const Linear& embedding,
                    std::vector<std::vector<int32_t>> windows);

  // Runs all windows through a block; the states become its outputs if `keep`.
  void run(Executor& executor, const proto::ModelSpec& spec, const Block& block, bool keep);
  uint64_t bytes() const;

 private:
  std::vector<std::vector<int32_t>> windows_;
  std::vector<std::vector<float>> states_;  // [tokens, hidden] each
};

}  // namespace pith
