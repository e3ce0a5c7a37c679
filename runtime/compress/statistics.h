// Statistics of the inputs of linear layers over the tokens of a calibration text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/buffer.h"
#include "runtime/algebra/algebra.h"

namespace pith {

struct StatisticsNeeds {
  bool mean_square = false;  // of each input channel
  bool gram = false;         // mean of x x^T
  bool cross_gram = false;   // how x differs from that of the uncompressed model
  bool output = false;       // output of the sublayer, see Calibration::output_error
  bool any() const { return mean_square || gram || cross_gram || output; }
  friend bool operator==(const StatisticsNeeds&, const StatisticsNeeds&) = default;
  StatisticsNeeds operator|(const StatisticsNeeds& b) const {
    return {mean_square || b.mean_square, gram || b.gram, cross_gram || b.cross_gram,
            output || b.output};
  }
};

// Means over tokens, kept as running means: no count of tokens overflows them. On the host.
struct InputStatistics {
  int64_t tokens = 0;
  std::vector<double> mean_square;  // [k]
  std::vector<float> absmax;        // [k], beside mean_square
  Buffer<float> gram;               // [k, k]
  // The input delta d is the uncompressed model's input less x. The stream delta s is the residual
  // stream of the uncompressed model less the one that the stage's outputs are added to (where they
  // are: o and down without a post-norm).
  Buffer<float> cross_gram;         // [k, k]: mean of d x^T
  Buffer<float> stream_cross_gram;  // [hidden, k]: mean of s x^T; empty where nothing is added to
};

// The statistics of one linear's inputs while tokens come, in the memory of an algebra.
class StatisticsBuilder {
 public:
  // `name`: of the linear, for errors. hidden: columns of stream deltas; 0: there are none.
  StatisticsBuilder(Algebra& algebra, std::string name, const StatisticsNeeds& needs, int64_t k,
                    int64_t hidden = 0);

  // m more tokens: x [m, k], input_delta [m, k] and stream_delta [m, hidden] or empty.
  void add(MatrixRef<const float> x, MatrixRef<const float> input_delta = {},
           MatrixRef<const float> stream_delta = {});
  // Error(kNumeric) naming the linear where an input was not finite. Ends it.
  InputStatistics finish();

 private:
  Algebra& algebra_;
  std::string name_;
  int64_t tokens_ = 0;
  Matrix<double> mean_square_;
  Matrix<float> absmax_, gram_, cross_gram_, stream_cross_gram_;
};

}  // namespace pith
