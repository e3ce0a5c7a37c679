// Sparse matrices: the kept values of every row in any other encoding, and a bit per column that
// says where they belong. Columns that are not kept are 0.
//
//   kNM      of every m columns n are kept ("2:4"); a shorter last group of t keeps min(n, t)
//   kBitmap  at most `kept` columns of a row, wherever they are
//
// A row thus stores K values: kept_per_row(). Planes of [n, k]: those of the inner encoding for a
// matrix [n, K], then
//
//   kIndices  [n, ceil(k / 32)] words of 32 bits, little-endian: bit i of word j is set where
//             column 32 j + i is kept. Bits beyond column k are 0.
//
// Value s of row r of the inner matrix belongs to the s-th kept column of row r, from the left.
// Under kBitmap a row may keep fewer columns; the values that are left over at its end are not
// read. So row r is row r of the inner matrix: no table of offsets is needed, and the kernels of
// the inner encoding read it as they read any matrix.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "formats/encodings/encoding.h"
#include "formats/encodings/mask.h"

namespace pith {

int64_t kept_per_row(const Sparsity& s, int64_t k);  // K

std::string to_string(const Sparsity& s);                  // "2:4", "bitmap512"
bool parse_sparsity(std::string_view name, Sparsity* to);  // false where it is none

// The K largest magnitudes of every row [k], within every m columns under kNM; of equal ones the
// left. w is f32 [rows, k]; returns words [rows, mask_words(k)]. `among`, a mask of the same size:
// only of the columns that it keeps, so that fewer may be kept than the pattern has (filled_mask()
// adds the rest); empty: of all.
std::vector<uint32_t> magnitude_mask(const Sparsity& s, int64_t k, int64_t rows, const float* w,
                                     std::span<const uint32_t> among = {});
// A mask [rows, mask_words(k)] and, under kNM, the leftmost other columns of each group that keeps
// fewer than it must.
std::vector<uint32_t> filled_mask(const Sparsity& s, int64_t k, std::span<const uint32_t> mask);

// Error(kCorrupt) naming the row where a mask [rows, mask_words(k)] keeps more columns than it may,
// fewer under kNM, or one beyond k. `row` is the number of the first.
void check_mask(const Sparsity& s, int64_t k, int64_t row, std::span<const uint32_t> mask);

// Encodes rows [row, row + rows) with the columns of `mask` [rows, mask_words(k)] kept, whatever
// their values, by plain rounding of the inner encoding. w is f32 [rows, k]. As EncodingOps::encode
// otherwise. Error(kCorrupt) for a mask that does not fit (check_mask).
void encode_masked(const Encoding& e, int64_t n, int64_t k, int64_t row, int64_t rows,
                   const float* w, std::span<const uint32_t> mask, float tensor_absmax,
                   MutablePlanes to);

// The kept values of each row [rows, K], 0 behind the last. Row r begins at w + r * stride.
template <class T>
std::vector<T> gather_kept(const Sparsity& s, int64_t k, int64_t rows,
                           std::span<const uint32_t> mask, const T* w, int64_t stride) {
  const int64_t kept = kept_per_row(s, k);
  std::vector<T> values(static_cast<size_t>(rows * kept));
  for (int64_t r = 0; r < rows; ++r) {
    T* to = values.data() + r * kept;
    const auto kept_here = mask_row(mask, k, r);
    for (int64_t c = 0; c < k; ++c) {
      if (is_kept(kept_here, c)) *to++ = w[r * stride + c];
    }
  }
  return values;
}
// Stores a mask [rows, mask_words(k)] as that of rows [row, row + rows).
void store_mask(int64_t k, int64_t row, std::span<const uint32_t> mask, MutablePlanes to);

// The inner matrix [n, K] over the same planes.
Weight kept_values(const Weight& w);
// The mask of rows [row, row + rows), as it is stored.
std::vector<uint32_t> stored_mask(const Weight& w, int64_t row, int64_t rows);

// values [rows, K] to the kept columns of out [rows, k], 0 elsewhere. The mask has been checked.
void expand_rows(const Sparsity& s, int64_t k, int64_t rows, std::span<const uint32_t> mask,
                 const float* values, float* out);

extern const EncodingOps kSparseOps;

}  // namespace pith
