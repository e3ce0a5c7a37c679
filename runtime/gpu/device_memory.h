// A device and its memory, with errors as exceptions.
#pragma once

#include <span>
#include <utility>

#include "core/error.h"
#include "runtime/cuda/ops.h"

namespace pith {

// One stream of one device. Not thread-safe.
class GpuDevice {
 public:
  explicit GpuDevice(const cuda::Ops& ops) : ops_(ops) { check(ops.make_stream(&stream_)); }
  ~GpuDevice() { ops_.end_stream(stream_); }
  GpuDevice(const GpuDevice&) = delete;
  GpuDevice& operator=(const GpuDevice&) = delete;

  const cuda::Ops& ops() const { return ops_; }

  // run(&Ops::norm, arguments)
  template <class Arguments>
  void run(cuda::Status (*cuda::Ops::*op)(const Arguments&, cuda::Stream),
           const Arguments& arguments) {
    check((ops_.*op)(arguments, stream_));
  }
  void upload(void* to, const void* from, uint64_t bytes) {
    check(ops_.upload(to, from, bytes, stream_));
  }
  // Returns when the bytes are there.
  void download(void* to, const void* from, uint64_t bytes) {
    check(ops_.download(to, from, bytes, stream_));
    wait();
  }
  void wait() { check(ops_.wait(stream_)); }

  static void check(cuda::Status status) {
    if (status != nullptr) fail(ErrorKind::kMemory, "CUDA: {}", status);
  }

 private:
  const cuda::Ops& ops_;
  cuda::Stream stream_ = nullptr;
};

// Memory of a device, zeroed when it is new.
class GpuBuffer {
 public:
  GpuBuffer() = default;
  GpuBuffer(GpuDevice& device, uint64_t bytes) : device_(&device), bytes_(bytes) {
    if (bytes > 0) GpuDevice::check(device.ops().allocate(bytes, &data_));
  }
  GpuBuffer(GpuDevice& device, const void* from, uint64_t bytes) : GpuBuffer(device, bytes) {
    if (bytes > 0) device.upload(data_, from, bytes);
  }
  GpuBuffer(GpuBuffer&& other) noexcept { *this = std::move(other); }
  GpuBuffer& operator=(GpuBuffer&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~GpuBuffer() {
    if (data_ != nullptr) device_->ops().release(data_);
  }

  // At least so many bytes; what was there is lost where it grows.
  void require(GpuDevice& device, uint64_t bytes) {
    if (bytes > bytes_) {
      *this = GpuBuffer();
      *this = GpuBuffer(device, bytes);
    }
  }
  template <class T = void>
  T* data() const {
    return static_cast<T*>(data_);
  }
  uint64_t bytes() const { return bytes_; }

 private:
  GpuDevice* device_ = nullptr;
  void* data_ = nullptr;
  uint64_t bytes_ = 0;
};

}  // namespace pith
