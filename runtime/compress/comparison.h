// Compares the weights of a linear before and after compression, slab by slab: slabs may be
// compared in any order and by any thread; the result is the same.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace pith {

// Hash of the original weights and squared error, per slab; joined in order of the rows.
struct Comparison {
  std::vector<uint64_t> hashes;
  std::vector<double> error, norm;
  std::vector<int64_t> lost, rows;  // rows that became zeros, of those that were not
  std::vector<float> largest;       // magnitude of what was lost

  explicit Comparison(int64_t slabs);

  uint64_t hash() const;
  double relative_error() const;
};

// Some rows of k weights of the linear `name`, the first of which is `row`.
struct Slab {
  const std::string& name;
  int64_t index;  // of its place in Comparison
  int64_t row, k;
};
// Error(kNumeric) where a number is not finite, or too large to be squared.
void compare_slab(const Slab& slab, std::span<const float> original, std::span<const float> result,
                  Comparison* to);

}  // namespace pith
