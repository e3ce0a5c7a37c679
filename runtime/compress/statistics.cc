#include "runtime/compress/statistics.h"

#include <cmath>
#include <utility>

#include "core/error.h"

namespace pith {

StatisticsBuilder::StatisticsBuilder(Algebra& algebra, std::string name,
                                     const StatisticsNeeds& needs, int64_t k, int64_t hidden)
    : algebra_(algebra),
      name_(std::move(name)),
      mean_square_(algebra, 1, k),
      absmax_(algebra, 1, k) {
  if (needs.gram) gram_ = Matrix<float>(algebra, k, k);
  if (needs.cross_gram) cross_gram_ = Matrix<float>(algebra, k, k);
  if (needs.cross_gram && hidden > 0) stream_cross_gram_ = Matrix<float>(algebra, hidden, k);
}

void StatisticsBuilder::add(MatrixRef<const float> x, MatrixRef<const float> input_delta,
                            MatrixRef<const float> stream_delta) {
  algebra_.add_to_moments(tokens_, x, mean_square_, absmax_);
  if (!gram_.empty()) algebra_.add_to_mean(tokens_, x, x, gram_);
  if (!cross_gram_.empty() && !input_delta.empty())
    algebra_.add_to_mean(tokens_, input_delta, x, cross_gram_);
  if (!stream_cross_gram_.empty() && !stream_delta.empty())
    algebra_.add_to_mean(tokens_, stream_delta, x, stream_cross_gram_);
  tokens_ += x.rows;
}

InputStatistics StatisticsBuilder::finish() {
  InputStatistics s;
  s.tokens = tokens_;
  if (tokens_ == 0) return s;
  const int64_t k = absmax_.columns();
  s.mean_square.resize(static_cast<size_t>(k));
  s.absmax.resize(static_cast<size_t>(k));
  algebra_.download(mean_square_.ref(), s.mean_square.data());
  algebra_.download(absmax_.ref(), s.absmax.data());
  for (size_t c = 0; c < s.mean_square.size(); ++c) {
    if (!std::isfinite(s.mean_square[c]))
      fail(ErrorKind::kNumeric, "{}: its input {} is not finite on the calibration text", name_, c);
  }
  s.gram = algebra_.take(std::move(gram_));
  if (!s.gram.empty()) mirror_upper(k, s.gram.data());
  s.cross_gram = algebra_.take(std::move(cross_gram_));
  s.stream_cross_gram = algebra_.take(std::move(stream_cross_gram_));
  return s;
}

}  // namespace pith
