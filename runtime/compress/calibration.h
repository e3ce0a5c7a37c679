// What compression learns by running the model on text: statistics of the inputs of linear layers.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "runtime/executor.h"

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
class CalibratingExecutor final : public Executor {
 public:
  CalibratingExecutor(Executor& inner, const StatisticsNeeds& needs)
      : inner_(inner), needs_(needs) {}

  BlockStatistics take() { return std::exchange(statistics_, {}); }

  std::string description() const override { return inner_.description() + ", calibrating"; }
  Activation buffer(Slot slot, int64_t m, int64_t n) override { return inner_.buffer(slot, m, n); }
  std::unique_ptr<KvCache> make_cache(const proto::ModelSpec& spec, int slots, int64_t length,
                                      DType type) override {
    return inner_.make_cache(spec, slots, length, type);
  }
  void embed(const Linear& table, std::span<const int32_t> tokens, Activation x) override {
    inner_.embed(table, tokens, x);
  }
  void norm(const NormWeights& norm, Activation x, Activation y) override {
    inner_.norm(norm, x, y);
  }
  void linear(const Linear& linear, Activation x, Activation y, bool add) override;
  void rope(const proto::Rope& rope, int64_t head_dim, const Batch& batch, Activation x) override {
    inner_.rope(rope, head_dim, batch, x);
  }
  void attention(const proto::Attention& spec, int index, const Batch& batch, KvCache& cache,
                 Activation q, Activation k, Activation v, Activation out) override {
    inner_.attention(spec, index, batch, cache, q, k, v, out);
  }
  void activate(proto::Activation activation, Activation gate, Activation up) override {
    inner_.activate(activation, gate, up);
  }
  void gather(Activation x, std::span<const int64_t> rows, Activation y) override {
    inner_.gather(x, rows, y);
  }
  void read(Activation x, std::span<float> to) override { inner_.read(x, to); }
  void write(std::span<const float> from, Activation x) override { inner_.write(from, x); }

 private:
  Executor& inner_;
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
