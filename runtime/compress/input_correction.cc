#include "runtime/compress/input_correction.h"

#include <utility>

namespace pith {

InputCorrection::InputCorrection(Algebra& algebra, InputStatistics held, int64_t k)
    : algebra_(algebra),
      held_(std::move(held)),
      by_inputs_(algebra, k, k),
      by_stream_(algebra, held_.stream_cross_gram.size() / k, k),
      held_gram_(algebra.borrow(std::as_const(held_).gram.data(), k, k)),
      held_cross_gram_(algebra.borrow(std::as_const(held_).cross_gram.data(), k, k)),
      held_stream_cross_gram_(
          algebra.borrow(std::as_const(held_).stream_cross_gram.data(), by_stream_.rows(), k)) {}

std::unique_ptr<InputCorrection> InputCorrection::make(Algebra& algebra,
                                                       const InputStatistics& fitted,
                                                       InputStatistics held, int64_t k,
                                                       const Damping& damping) {
  std::unique_ptr<InputCorrection> to(new InputCorrection(algebra, std::move(held), k));
  return to->solve(fitted, damping) ? std::move(to) : nullptr;
}

bool InputCorrection::solve(const InputStatistics& fitted, const Damping& damping) {
  const int64_t k = by_inputs_.rows(), n = by_stream_.rows();
  Matrix<double> a = damped_gram(algebra_, fitted.gram.data(), k, damping);
  Matrix<double> b(algebra_, k + n, k);
  algebra_.convert(algebra_.borrow(fitted.cross_gram.data(), k, k).ref(), b.row_block(0, k));
  if (n > 0) {
    algebra_.convert(algebra_.borrow(fitted.stream_cross_gram.data(), n, k).ref(),
                     b.row_block(k, n));
  }
  if (!algebra_.solve_positive(a, b)) return false;
  const auto& solved = std::as_const(b);
  algebra_.convert(solved.row_block(0, k), by_inputs_);
  if (n > 0) algebra_.convert(solved.row_block(k, n), by_stream_);
  return true;
}

InputCorrection::Effect InputCorrection::judge(MatrixRef<const float> w, int64_t first) const {
  Matrix<float> move(algebra_, w.rows, w.columns), product(algebra_, w.rows, w.columns);
  algebra_.gemm(1, w, by_inputs_, 0, move);
  algebra_.gemm(1, w, held_cross_gram_, 0, product);
  if (!by_stream_.empty()) {
    algebra_.add_scaled(1, by_stream_.row_block(first, w.rows), move);
    algebra_.add_scaled(1, held_stream_cross_gram_.row_block(first, w.rows), product);
  }
  Effect effect;
  effect.gain = algebra_.dot(move, product);
  algebra_.gemm(1, move, held_gram_, 0, product);
  effect.cost = algebra_.dot(move, product);
  return effect;
}

void InputCorrection::apply(float share, int64_t first, MatrixRef<float> w) const {
  Matrix<float> move(algebra_, w.rows, w.columns);
  algebra_.gemm(1, w, by_inputs_, 0, move);
  algebra_.add_scaled(share, move, w);
  if (!by_stream_.empty()) algebra_.add_scaled(share, by_stream_.row_block(first, w.rows), w);
}

}  // namespace pith
