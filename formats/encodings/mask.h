// Which weights of a matrix are kept: a bit for each, set where it is kept. The layout is that of
// the plane kIndices (sparse.h): a row has ceil(k / 32) words of 32 bits, bit i of word j stands
// for column 32 j + i, and bits beyond column k are 0.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace pith {

inline int64_t mask_words(int64_t k) { return (k + 31) / 32; }
inline bool is_kept(std::span<const uint32_t> mask_row, int64_t column) {
  return (mask_row[static_cast<size_t>(column / 32)] >> (column % 32) & 1u) != 0;
}
// Row `row` of a mask [rows, mask_words(k)].
inline std::span<const uint32_t> mask_row(std::span<const uint32_t> mask, int64_t k, int64_t row) {
  const auto words = static_cast<size_t>(mask_words(k));
  return mask.subspan(static_cast<size_t>(row) * words, words);
}

// The mask of a matrix [n, k], which keeps everything at first. Rows begin at a word of their own:
// threads may change different rows.
class Mask {
 public:
  Mask(int64_t n, int64_t k)
      : n_(n), k_(k), words_(static_cast<size_t>(n * mask_words(k)), ~uint32_t{0}) {
    if (k % 32 == 0) return;
    for (int64_t r = 0; r < n; ++r) rows(r, 1).back() = (uint32_t{1} << (k % 32)) - 1;
  }

  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  void drop(int64_t row, int64_t column) {
    rows(row, 1)[static_cast<size_t>(column / 32)] &= ~(uint32_t{1} << (column % 32));
  }
  void keep(int64_t row, int64_t column) {
    rows(row, 1)[static_cast<size_t>(column / 32)] |= uint32_t{1} << (column % 32);
  }
  bool keeps(int64_t row, int64_t column) const { return is_kept(rows(row, 1), column); }
  // Rows [row, row + count): [count, mask_words(k)].
  std::span<const uint32_t> rows(int64_t row, int64_t count) const {
    return std::span(words_).subspan(at(row), at(count));
  }
  std::span<uint32_t> rows(int64_t row, int64_t count) {
    return std::span(words_).subspan(at(row), at(count));
  }

 private:
  size_t at(int64_t row) const { return static_cast<size_t>(row * mask_words(k_)); }

  int64_t n_, k_;
  std::vector<uint32_t> words_;
};

}  // namespace pith
