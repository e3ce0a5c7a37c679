// Keys and values on the CPU, in the types of runtime/kv_types.h.
#pragma once

#include <vector>

#include "core/buffer.h"
#include "runtime/cpu/kernels.h"
#include "runtime/executor.h"

namespace pith {

// Reused between calls.
struct KvScratch {
  Buffer<float> rows, scales, zeros;
};

// The keys or the values of one attention: rows of head_dim numbers, [slot][kv_head][length].
// Different threads may write different rows.
class KvPlane {
 public:
  KvPlane(KvType type, bool keys, int slots, int64_t kv_heads, int64_t length, int64_t head_dim);

  uint64_t bytes() const;
  int64_t row(int slot, int64_t head, int64_t position) const {
    return (slot * kv_heads_ + head) * length_ + position;
  }
  // Whether rows are stored rotated: queries are to be rotated as well (rotate_head).
  bool rotated() const { return rotated_; }

  // x [head_dim] into a row. One number that is not finite makes NaN of all that share its scale.
  void write(const CpuKernels& kernels, int64_t row, const float* x);
  // Rows [row, row + count) as f32 [count, head_dim], in `scratch` or where they lie.
  const float* read(const CpuKernels& kernels, int64_t row, int64_t count,
                    KvScratch& scratch) const;
  // The same rows for kernels.dot[kind()].
  CodeKind kind() const;
  void code_rows(const CpuKernels& kernels, int64_t row, int64_t count, KvScratch& scratch,
                 CodeRow* out) const;

 private:
  const std::byte* codes(int64_t row) const { return codes_.data() + row * row_bytes_; }

  KvType type_;
  bool rotated_;
  int64_t kv_heads_, length_, head_dim_, groups_, row_bytes_;
  Buffer<std::byte> codes_;
  Buffer<float> scales_;                          // int8, fp8: [row]
  Buffer<uint16_t> group_scales_, group_minima_;  // int4: [row][group]
};

class CpuKvCache final : public KvCache {
 public:
  CpuKvCache(const proto::ModelSpec& spec, int slots, int64_t length, KvTypes types);
  int slots() const override { return slots_; }
  int64_t length() const override { return length_; }
  uint64_t bytes() const override;

  KvPlane& keys(int index) { return layers_[static_cast<size_t>(index)].keys; }
  KvPlane& values(int index) { return layers_[static_cast<size_t>(index)].values; }

 private:
  struct Layer {
    KvPlane keys, values;
  };
  int slots_;
  int64_t length_;
  std::vector<Layer> layers_;
};

// x [n] times the normalized Hadamard matrix, in blocks of the largest power of two that divides n:
// its own inverse, and products of two vectors stay what they are.
void rotate_head(float* x, int64_t n);

}  // namespace pith
