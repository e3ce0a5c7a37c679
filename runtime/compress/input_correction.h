// Input correction (GPTAQ, Li et al. 2025; Qronos, Zhang et al. 2025): the inputs x of a stage
// carry the errors of what was compressed before it, o are those of the uncompressed model. Rather
// than W x the rounded layer is to give W o, and where its output is added to a residual stream
// that misses s by now, that too: y = W o + s. On average W + (W C + S) (H + damping)^-1 does that
// best, C = mean of (o - x) x^T, S = mean of s x^T, H = mean of x x^T.
//
// How far to move a weight towards that is judged on windows that were held out.
#pragma once

#include <memory>

#include "runtime/compress/damped_gram.h"
#include "runtime/compress/statistics.h"

namespace pith {

class InputCorrection {
 public:
  // Null where the equations cannot be solved.
  static std::unique_ptr<InputCorrection> make(Algebra& algebra, const InputStatistics& fitted,
                                               InputStatistics held, int64_t k,
                                               const Damping& damping);

  // What the squared error on the held-out tokens would gain by the move, to the first order (less
  // than zero: it grows), and cost, to the second: the best share of it is gain / cost. Sums over
  // rows [first, first + w.rows) of a weight, w [rows, k] in the memory of the algebra.
  struct Effect {
    double gain = 0, cost = 0;
  };
  Effect judge(MatrixRef<const float> w, int64_t first) const;
  // w += share of the move
  void apply(float share, int64_t first, MatrixRef<float> w) const;

 private:
  InputCorrection(Algebra& algebra, InputStatistics held, int64_t k);
  bool solve(const InputStatistics& fitted, const Damping& damping);

  Algebra& algebra_;
  InputStatistics held_;
  // W moves by W by_inputs_ + by_stream_.
  Matrix<float> by_inputs_, by_stream_;  // [k, k]; [n, k] or empty
  const Matrix<float> held_gram_, held_cross_gram_, held_stream_cross_gram_;
};

}  // namespace pith
