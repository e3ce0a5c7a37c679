// A device and its memory, with errors as exceptions.
#pragma once

#include <span>
#include <utility>

#include "core/error.h"
#include "runtime/cuda_kernels/ops.h"

namespace pith {

class GpuDevice;

// Work that was recorded to be done again.
class GpuGraph {
 public:
  GpuGraph() = default;
  GpuGraph(const cuda::Ops& ops, cuda::Graph graph) : ops_(&ops), graph_(graph) {}
  GpuGraph(GpuGraph&& other) noexcept { *this = std::move(other); }
  GpuGraph& operator=(GpuGraph&& other) noexcept {
    std::swap(ops_, other.ops_);
    std::swap(graph_, other.graph_);
    return *this;
  }
  ~GpuGraph() {
    if (graph_ != nullptr) ops_->release_graph(graph_);
  }
  explicit operator bool() const { return graph_ != nullptr; }
  cuda::Graph get() const { return graph_; }

 private:
  const cuda::Ops* ops_ = nullptr;
  cuda::Graph graph_ = nullptr;
};

// One stream of one device. Not thread-safe.
class GpuDevice {
 public:
  // `plans`: nothing is done on it, and no data need be there to be uploaded (memory_plan.h).
  explicit GpuDevice(const cuda::Ops& ops, bool plans = false) : ops_(ops), plans_(plans) {
    check(ops.make_stream(&stream_));
  }
  ~GpuDevice() { ops_.end_stream(stream_); }
  GpuDevice(const GpuDevice&) = delete;
  GpuDevice& operator=(const GpuDevice&) = delete;

  const cuda::Ops& ops() const { return ops_; }
  bool plans() const { return plans_; }

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
  void copy(void* to, const void* from, uint64_t bytes) {
    check(ops_.copy(to, from, bytes, stream_));
  }
  void wait() { check(ops_.wait(stream_)); }

  uint64_t free_bytes() const {
    uint64_t free = 0, total = 0;
    check(ops_.memory(&free, &total));
    return free;
  }

  void begin_graph() { check(ops_.begin_graph(stream_)); }
  GpuGraph end_graph();
  void launch(const GpuGraph& graph);

  static void check(cuda::Status status) {
    if (status != nullptr) fail(ErrorKind::kMemory, "CUDA: {}", status);
  }

 private:
  const cuda::Ops& ops_;
  const bool plans_;
  cuda::Stream stream_ = nullptr;
};

inline GpuGraph GpuDevice::end_graph() {
  cuda::Graph graph = nullptr;
  check(ops_.end_graph(stream_, &graph));
  return {ops_, graph};
}
inline void GpuDevice::launch(const GpuGraph& graph) {
  check(ops_.launch_graph(graph.get(), stream_));
}

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
