#include "lowrank/low_rank_term.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/parallel.h"
#include "runtime/compress/check.h"
#include "runtime/cpu/decode.h"

namespace pith {
namespace {

Weight encoded(Algebra& algebra, const Matrix<double>& m, const Encoding& e,
               const std::string& linear) {
  Matrix<float> narrow(algebra, m.rows(), m.columns());
  algebra.convert(m.ref(), narrow);
  const Buffer<float> w = algebra.take(std::move(narrow));
  const bool f16 = e.kind == EncodingKind::kDense && e.dtype == DType::kF16;
  const float largest = f16 ? 65504.0f : std::numeric_limits<float>::max();
  for (const float v : w) {
    if (!(std::fabs(v) <= largest))
      fail(ErrorKind::kNumeric, "{}: a factor has {}, which {} does not hold", linear, v,
           to_string(e));
  }
  return encode(e, m.rows(), m.columns(), w.data());
}

}  // namespace

Matrix<float> weights_of(Algebra& algebra, const Linear& linear) {
  const int64_t n = linear.n, k = linear.k;
  Buffer<float> w(n * k);
  parallel_ranges(n, 48, [&](int64_t begin, int64_t end) {
    float* const rows = w.data() + begin * k;
    decode_rows(linear, begin, end - begin, rows);
    check_finite(linear.name, begin, k, {rows, static_cast<size_t>((end - begin) * k)});
  });
  return {algebra, n, k, w.data()};
}

Term low_rank_term(Algebra& algebra, const Factors& factors, const TermForm& form,
                   const std::string& linear) {
  return {.w = encoded(algebra, factors.w, form.weight, linear),
          .up = encoded(algebra, factors.up, form.up, linear)};
}

}  // namespace pith
