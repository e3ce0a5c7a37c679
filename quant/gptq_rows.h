// Rows of a linear in a factor's order of columns, while they are rounded: their numbers, scales
// and codes, and how those go into the planes.
#pragma once

#include "formats/encodings/tcq.h"
#include "quant/gptq.h"
#include "quant/grid.h"
#include "quant/group_search.h"

namespace pith {

Levels levels_of(const Encoding& e);
inline bool is_fp8(const Encoding& e) { return e.value_kind() == EncodingKind::kFp8; }
// Whether each row has its own, so that one row's may change.
inline bool has_own_scales(const Encoding& e) { return !is_fp8(e) || e.area == ScaleArea::kRow; }

class GptqRows {
 public:
  // Rows [first, first + rows) of the job.
  GptqRows(const GptqFactor& f, const RowJob& job, int64_t first, int64_t rows);
  GptqRows(const GptqRows&) = delete;
  GptqRows& operator=(const GptqRows&) = delete;

  // The numbers, each row scaled by a power of two to a magnitude near 1, and what the mask keeps.
  void load();
  // The scale and zero of group g for numbers x [rows, width] at a stride, with weights of columns:
  // searched for, or from the range, without what the mask drops; those of fp8 are there already.
  void choose_scales(size_t g, const float* x, int64_t stride, const float* weights, bool search);
  void store();

  // Scales of two levels: what those of a group may become, from the ranges of the original
  // weights.
  void fix_largest_scales();
  // What the planes will hold of a scale of row r.
  float as_stored(int64_t r, float s) const;
  int64_t scale_index(size_t g, int64_t r) const { return static_cast<int64_t>(g) * lanes_ + r; }

  const GptqFactor& f_;
  const RowJob& job_;
  int64_t first_, rows_, lanes_;
  Levels levels_;
  Buffer<float> original_;         // [rows, k] by place
  Buffer<float> kept_;             // [rows, k] by place: 0 where the mask drops, else 1; or empty
  Buffer<float> codes_;            // [rows, k] by place
  std::vector<uint16_t> windows_;  // [rows, k] of trellis codes
  Buffer<float> scale_, zero_;     // [groups, lanes], groups in their order
  std::vector<int> exponent_;      // [rows]
  std::vector<float> largest_;     // [rows] of two_level: 127 times the row's scale; or empty

 private:
  // The fp8 scale of a group, as the reference encoder left it: from the original weights.
  float fp8_scale_of(int64_t r, const GptqFactor::Group& group) const;
  std::byte* fp8_scale_bytes(int64_t row, const GptqFactor::Group& group) const;
  void store_fp8();
  // The numbers of row r [k] that are stored: all, or those of the kept columns, in `kept`.
  template <class T>
  std::span<const T> stored_numbers(int64_t r, const std::vector<T>& row,
                                    std::vector<T>* kept) const;

  const Encoding encoding_;           // of the values that are stored
  const std::vector<uint32_t> mask_;  // [rows, mask_words(k)] of a sparse encoding; or empty
  const StoredColumns columns_;
  const RowJob stored_;  // these rows of the matrix of stored values
  GroupLayout layout_;   // of that
  GroupSearch search_;
};

}  // namespace pith
