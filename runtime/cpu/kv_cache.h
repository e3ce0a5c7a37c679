// Keys and values on the CPU, in the types of runtime/forward/kv_types.h.
#pragma once

#include <string>
#include <vector>

#include "core/buffer.h"
#include "core/matrix.h"
#include "runtime/cpu/kernels.h"
#include "runtime/forward/kv_cache.h"
#include "runtime/model/spec.h"

namespace pith {

// Reused between calls.
struct KvScratch {
  Buffer<float> numbers, scales, zeros;
};

// Positions [first, first + count) of a head of keys or values.
struct KvRange {
  int64_t head, first, count;
};

// The keys or the values of one attention: numbers [head][position][head_dim], where positions are
// those of all pages (KvPages::row). Values lie by rows. Keys lie in tiles of 16 positions, column
// by column, so that a query meets 16 keys side by side. Different threads may write different
// tiles.
class KvPlane {
 public:
  static constexpr int64_t kTile = 16;  // positions

  KvPlane(NumberFormat type, bool keys, int64_t heads, int64_t length, int64_t head_dim);
  // Bytes of all planes of a token of one head.
  static uint64_t row_bytes(NumberFormat type, int64_t head_dim);

  int64_t heads() const { return heads_; }
  int64_t head_dim() const { return head_dim_; }
  uint64_t bytes() const;
  // Whether rows are stored rotated: queries are to be rotated as well (rotate_head).
  bool rotated() const { return rotated_; }

  // x [head_dim] of a position. One number that is not finite makes NaN of all that share its
  // scale.
  void write(const CpuKernels& kernels, int64_t head, int64_t position, const float* x);
  void fill(const CpuKernels& kernels);  // some numbers at every position
  // Positions [from, from + count) of all heads to [to, to + count); all are multiples of kTile.
  void copy(int64_t from, int64_t to, int64_t count);
  // Keys. to[r, i] = the product of x[r] and the key of position first + i, for rows of x
  // [rows, head_dim] and i < count; what is behind that in the last tile of `to` may be anything.
  // `first` is a multiple of kTile.
  void scores(const CpuKernels& kernels, const KvRange& range, const MatrixRef<const float>& x,
              const MatrixRef<float>& to, KvScratch& scratch) const;
  // Values. to[r, head_dim] += the sum over i < count of weights[r, i] times the value of position
  // first + i.
  void weigh(const CpuKernels& kernels, const KvRange& range, const MatrixRef<const float>& weights,
             const MatrixRef<float>& to, KvScratch& scratch) const;

  // Values of these positions as f32 [count, head_dim], in `scratch` or where they lie.
  const float* rows(const CpuKernels& kernels, const KvRange& range, KvScratch& scratch) const;
  // Keys of the same as f32 [head_dim, ld], ld = count up to a multiple of kTile; `first` is a
  // multiple of it.
  const float* columns(const CpuKernels& kernels, const KvRange& range, KvScratch& scratch) const;

 private:
  int64_t row(int64_t head, int64_t position) const { return head * length_ + position; }
  void encode(const CpuKernels& kernels, const float* x, std::byte* codes, float* scale,
              uint16_t* group_scales, uint16_t* group_minima) const;
  // `count` rows, or those of count / kTile tiles, for the kernels; scales and zeros without gaps.
  CodeRow codes(const CpuKernels& kernels, int64_t row, int64_t count, KvScratch& scratch) const;
  CodeColumns tiles(const CpuKernels& kernels, const KvRange& range, KvScratch& scratch) const;
  void unpack_groups(const CpuKernels& kernels, int64_t group, int64_t count,
                     KvScratch& scratch) const;

  NumberFormat type_;
  bool keys_, rotated_;
  int64_t heads_, length_, head_dim_, groups_, row_bytes_;
  Buffer<std::byte> codes_;
  Buffer<float> scales_;                          // int8, fp8: [row]
  Buffer<uint16_t> group_scales_, group_minima_;  // int4: [row][group], of keys [tile][group][16]
};

class CpuKvStorage final : public KvStorage {
 public:
  // Takes its memory when it is made; Error(kMemory) as require_cache_memory() throws it.
  CpuKvStorage(const proto::ModelSpec& spec, KvTypes types, const KvPages& pages);
  uint64_t bytes() const override;
  void fill() override;
  void copy_page(int32_t from, int32_t to) override;

  KvPlane& keys(int index) { return layers_[static_cast<size_t>(index)].keys; }
  KvPlane& values(int index) { return layers_[static_cast<size_t>(index)].values; }

 private:
  struct Layer {
    KvPlane keys, values;
  };
  std::vector<Layer> layers_;
};

// Error(kMemory) where all that the slots of such a cache may need (`pages` does not count), beside
// `other` bytes, is more than the memory that this process may have: it says what fits, and names
// `options`, which set the length.
void require_cache_memory(const proto::ModelSpec& spec, const KvConfig& cache, uint64_t other,
                          const std::string& options = "--ctx-size");

// x [n] times the normalized Hadamard matrix, in blocks of the largest power of two that divides n:
// its own inverse, and products of two vectors stay what they are.
void rotate_head(float* x, int64_t n);

}  // namespace pith
