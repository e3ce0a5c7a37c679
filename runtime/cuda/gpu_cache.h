// Keys and values on the device: a page of KvPages is up to four of 16 tokens, which follow each
// other (runtime/cuda_kernels/attention/attention.h).
#pragma once

#include <vector>

#include "runtime/cuda/device_memory.h"
#include "runtime/forward/kv_cache.h"
#include "runtime/model/spec.h"

namespace pith {

class GpuKvStorage final : public KvStorage {
 public:
  // Error(kUnsupported) for int4.
  GpuKvStorage(GpuDevice& device, const proto::ModelSpec& spec, KvTypes types,
               const KvPages& pages);

  uint64_t bytes() const override;
  void fill() override {}  // new memory is zeros
  void copy_page(int32_t from, int32_t to) override;
  // Brings the page table on the device up to date: before work on tokens whose places changed.
  void upload_tables();

  // Unique in this process.
  uint64_t id() const { return id_; }
  // The cache of one attention, counted over the model.
  cuda::Cache of(int index) const;
  // Keys and queries are to be rotated (runtime/forward/kv_types.h). Those of latent attention are
  // not: they are values as well.
  bool rotated(int index) const {
    return types_.keys == NumberFormat::kInt8 && !cuda::is_latent(of(index));
  }

 private:
  struct Plane {
    GpuBuffer rows, scales;
  };
  struct Layer {
    Plane keys, values;
    int64_t heads, head_dim;
  };
  GpuDevice& device_;
  const uint64_t id_;
  const int64_t parts_;  // pages of the device that are one of the tables
  KvTypes types_;
  GpuBuffer tables_;      // [slots, pages_per_slot * parts]
  uint64_t version_ = 0;  // of the tables that are there
  std::vector<Layer> layers_;
};

}  // namespace pith
