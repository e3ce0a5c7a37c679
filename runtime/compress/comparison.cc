#include "runtime/compress/comparison.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/hash.h"
#include "runtime/compress/check.h"

namespace pith {

Comparison::Comparison(int64_t slabs)
    : hashes(static_cast<size_t>(slabs)),
      error(static_cast<size_t>(slabs)),
      norm(static_cast<size_t>(slabs)),
      lost(static_cast<size_t>(slabs)),
      rows(static_cast<size_t>(slabs)),
      largest(static_cast<size_t>(slabs)) {}

uint64_t Comparison::hash() const { return hash64(std::as_bytes(std::span(hashes))); }

double Comparison::relative_error() const {
  double e = 0, n = 0;
  for (size_t i = 0; i < error.size(); ++i) {
    e += error[i];
    n += norm[i];
  }
  return n > 0 ? e / n : 0;
}

void compare_slab(const Slab& slab, std::span<const float> original, std::span<const float> result,
                  Comparison* to) {
  const auto& [name, index, row, k] = slab;
  // In lanes, so that the order of summation is fixed and the compiler may use vectors.
  float error[16] = {}, norm[16] = {};
  double error_sum = 0, norm_sum = 0;
  const auto flush = [&] {
    for (int l = 0; l < 16; ++l) {
      error_sum += static_cast<double>(error[l]);
      norm_sum += static_cast<double>(norm[l]);
      error[l] = norm[l] = 0;
    }
  };
  const size_t n = original.size();
  const float* a = original.data();
  const float* b = result.data();
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (size_t l = 0; l < 16; ++l) {
      const float d = a[i + l] - b[i + l];
      error[l] += d * d;
      norm[l] += a[i + l] * a[i + l];
    }
    if (i % 4096 == 0) flush();
  }
  for (; i < n; ++i) {
    const float d = a[i] - b[i];
    error[i % 16] += d * d;
    norm[i % 16] += a[i] * a[i];
  }
  flush();
  if (!std::isfinite(norm_sum)) {
    check_finite(name, row, k, original);
    fail(ErrorKind::kNumeric, "{}: weights in the rows from {} on are too large to be squared",
         name, row);
  }
  if (!std::isfinite(error_sum))
    fail(ErrorKind::kNumeric, "{}: the compressed weights are not finite near row {}", name, row);
  const auto s = static_cast<size_t>(index);
  const auto is_zero = [](float v) { return v == 0; };
  for (size_t at = 0; at < n; at += static_cast<size_t>(k)) {
    const auto before = original.subspan(at, static_cast<size_t>(k)),
               after = result.subspan(at, static_cast<size_t>(k));
    if (std::ranges::all_of(before, is_zero)) continue;
    ++to->rows[s];
    if (!std::ranges::all_of(after, is_zero)) continue;
    ++to->lost[s];
    for (const float v : before) to->largest[s] = std::max(to->largest[s], std::fabs(v));
  }
  to->error[s] = error_sum;
  to->norm[s] = norm_sum;
  to->hashes[s] = hash64(std::as_bytes(original));
}

}  // namespace pith
