// Keys and values on the device, in pages of 16 tokens (runtime/cuda_kernels/ops.h).
#pragma once

#include <vector>

#include "runtime/cuda/device_memory.h"
#include "runtime/forward/executor.h"

namespace pith {

class GpuKvCache final : public KvCache {
 public:
  // Error(kUnsupported) for int4.
  GpuKvCache(GpuDevice& device, const proto::ModelSpec& spec, int slots, int64_t length,
             KvTypes types);

  int slots() const override { return slots_; }
  int64_t length() const override { return length_; }
  uint64_t bytes() const override;
  void fill() override {}  // new memory is zeros

  // Of no other cache of this process.
  uint64_t id() const { return id_; }
  // Of one attention, counted over the model.
  cuda::Cache of(int index) const;
  // Keys and queries are to be rotated (runtime/forward/kv_types.h). Those of latent attention are
  // not: they are values as well.
  bool rotated(int index) const {
    return types_.keys == KvType::kInt8 && !cuda::is_latent(of(index));
  }

 private:
  struct Plane {
    GpuBuffer rows, scales;
  };
  struct Layer {
    Plane keys, values;
    int64_t heads, head_dim;
  };
  const uint64_t id_;
  int slots_;
  int64_t length_, pages_per_slot_;
  KvTypes types_;
  GpuBuffer pages_;
  std::vector<Layer> layers_;
};

}  // namespace pith
