// Collects the statistics of a stage's inputs while windows of text run through its sublayer: of
// one linear, or one of each of some experts or heads, which take the same pass over the text.
#pragma once

#include <string>
#include <vector>

#include "core/phases.h"
#include "runtime/compress/calibration_states.h"
#include "runtime/compress/stages.h"
#include "runtime/compress/statistics.h"
#include "runtime/cpu/rounded_inputs.h"

namespace pith {

class StageCollector {
 public:
  struct Request {
    const Stage& stage;
    std::vector<std::string> names;  // linears
    StatisticsNeeds needs;
    InputEncoding rounding;  // of the inputs as the stage will see them
    bool feeds_residual;     // the stage's outputs are added to the residual stream as they are
  };
  // hidden: columns of the residual stream.
  StageCollector(Executor& executor, Request request, int64_t hidden, Phases& phases);

  // Whether the uncompressed model's inputs are wanted too, by add_original().
  bool compares() const { return compares_; }

  // The inputs of a window in the block as it is now; nothing after the last of them is run.
  void add(const Block& block, CalibrationStates& states, size_t window);
  // The same window's input in the uncompressed model, which is not rounded. `keeps`: the originals
  // go on to the next sublayer.
  void add_original(const Block& original, CalibrationStates& originals,
                    const CalibrationStates& states, size_t window, bool keeps);
  // By name.
  std::vector<InputStatistics> finish();

 private:
  // Tokens that were collected and not added yet.
  struct Tokens {
    StatisticsBuilder statistics;
    Matrix<float> x, input_delta, stream_delta;
    int64_t rows = 0;
  };

  void take(Tokens& to, MatrixRef<const float> x);
  void flush(Tokens& tokens);

  Executor& executor_;
  Algebra& algebra_;
  Request request_;
  Phases& phases_;
  const bool compares_;
  const int64_t tokens_together_;
  std::vector<Tokens> tokens_;
  RoundedInputs rounded_;
  std::vector<float> host_;
  Matrix<float> scratch_;
};

}  // namespace pith
