// What the parts of the GPU executor share: the device, the weights on it, the activations, and the
// one way in which memory grows.
#pragma once

#include <array>

#include "core/bytes.h"
#include "core/matrix.h"
#include "runtime/cuda/gpu_weights.h"
#include "runtime/forward/tensor.h"

namespace pith {

class GpuContext {
 public:
  GpuContext(const cuda::Ops& ops, bool plans, bool invariant)
      : device(ops, plans), batch_invariant(invariant) {
    GpuDevice::check(ops.chip(&chip), "ask for the chip");
  }

  GpuDevice device;  // first: memory of the others is given back before it ends
  const bool batch_invariant;
  cuda::Chip chip{};
  GpuWeights weights{device};

  static uint64_t floats(int64_t n) { return static_cast<uint64_t>(n) * sizeof(float); }

  void grow(GpuBuffer& buffer, uint64_t bytes) {
    if (bytes <= buffer.bytes()) return;
    buffer.require(device, bytes);
    addresses_changed();
  }
  template <class T>
  void upload(GpuBuffer& to, std::span<const T> from) {
    grow(to, from.size_bytes());
    device.upload(to.data(), from.data(), from.size_bytes());  // reads it before it returns
  }
  // The memory of a tensor, at least so much.
  MatrixRef<float> buffer(TensorId id, int64_t m, int64_t n) {
    GpuBuffer& b = buffers_[static_cast<size_t>(id)];
    grow(b, floats(m * n));
    return {b.data<float>(), m, n};
  }
  MatrixRef<float> view(Tensor x) const {
    if (!x) return {};
    return {buffers_[static_cast<size_t>(x.id)].data<float>(), x.m, x.n};
  }

  // Recorded graphs hold addresses: one that was recorded at another count is void.
  void addresses_changed() { ++address_changes_; }
  uint64_t address_changes() const { return address_changes_; }

 private:
  std::array<GpuBuffer, kTensorIds> buffers_;
  uint64_t address_changes_ = 0;
};

}  // namespace pith
