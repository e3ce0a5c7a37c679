// Which weights pruning cleared: one bit for each weight of a matrix [n, k].
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace pith {

// Rows begin at a word of their own, so that threads may clear in different rows.
class Mask {
 public:
  Mask(int64_t n, int64_t k)
      : n_(n), k_(k), words_((k + 63) / 64), bits_(static_cast<size_t>(n * words_)) {}

  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  void clear(int64_t row, int64_t column) { word(row, column) |= uint64_t{1} << (column % 64); }
  bool cleared(int64_t row, int64_t column) const {
    return (const_cast<Mask*>(this)->word(row, column) >> (column % 64) & 1) != 0;
  }

 private:
  uint64_t& word(int64_t row, int64_t column) {
    return bits_[static_cast<size_t>(row * words_ + column / 64)];
  }

  int64_t n_, k_, words_;
  std::vector<uint64_t> bits_;
};

// The masks of a block's linears by name, for their one term without `up`. A linear that is not in
// here is dense.
using Masks = std::map<std::string, Mask>;

inline const Mask* find_mask(const Masks& masks, const std::string& linear) {
  const auto it = masks.find(linear);
  return it == masks.end() ? nullptr : &it->second;
}

}  // namespace pith
