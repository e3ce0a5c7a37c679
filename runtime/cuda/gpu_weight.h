// A weight on the device, in the layout that its kernels read
// (runtime/cuda_kernels/gemm/weight_tiles.h).
#pragma once

#include <vector>

#include "formats/encodings/encoding.h"
#include "runtime/cuda/device_memory.h"

namespace pith {

class GpuWeight {
 public:
  GpuWeight() = default;
  // Integers, nf4, trellis codes, 8-bit floats, f16 and bf16 are repacked as they are; all others
  // (f32, the types of GGUF) are decoded and rounded to f16: Error(kUnsupported) where they do not
  // fit.
  GpuWeight(GpuDevice& device, const Weight& w);

  const cuda::TileWeight& tiles() const { return tiles_; }
  // Bytes on the device.
  uint64_t bytes() const;
  static uint64_t bytes_of(const Encoding& e, int64_t n, int64_t k);

 private:
  GpuBuffer& add(GpuBuffer buffer) { return planes_.emplace_back(std::move(buffer)); }
  const void* repack_part(GpuDevice& device, const cuda::CodeSource& from, int bits);
  void repack_tcq(GpuDevice& device, const void* codes);
  void set_group_planes(GpuDevice& device, const Weight& w);
  void set_float_scales(GpuDevice& device, const Weight& w);

  cuda::TileWeight tiles_{};
  std::vector<GpuBuffer> planes_;
};

}  // namespace pith
