// Keys and values on the CPU, and attention over them.
#pragma once

#include "core/buffer.h"
#include "runtime/cpu/kernels.h"
#include "runtime/executor.h"

namespace pith {

// [slot][kv_head][length][head_dim] for keys and for values of every attention, in f32 or f16.
class CpuKvCache final : public KvCache {
 public:
  CpuKvCache(const proto::ModelSpec& spec, int slots, int64_t length, DType type);
  int slots() const override { return slots_; }
  int64_t length() const override { return length_; }
  uint64_t bytes() const override;

  DType type() const { return type_; }
  // Rows [position, ...) of one head; head_dim elements each.
  std::byte* keys(int index, int slot, int64_t head, int64_t position);
  std::byte* values(int index, int slot, int64_t head, int64_t position);

 private:
  struct Layer {
    int64_t kv_heads, head_dim;
    Buffer<std::byte> keys, values;
  };
  std::byte* at(Buffer<std::byte>& plane, const Layer& l, int slot, int64_t head, int64_t position);

  int slots_;
  int64_t length_;
  DType type_;
  std::vector<Layer> layers_;
};

// Online softmax over blocks of 64 keys, f32 throughout. A tile is the queries of all heads that
// share a key head, up to 64 rows. What a row sums up, and in which order, depends on its position
// and on how many rows its tile has, never on threads.
void attend(const CpuKernels& kernels, const proto::Attention& spec, int index, const Batch& batch,
            CpuKvCache& cache, Activation q, Activation k, Activation v, Activation out);

}  // namespace pith
