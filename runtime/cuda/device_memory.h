// A device and its memory, with errors as exceptions.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "runtime/cuda_kernels/cuda_ops.h"
#include "runtime/cuda_kernels/status.h"

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
    check(ops.make_stream(&stream_), "make a stream");
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
    if (const cuda::Status status = (ops_.*op)(arguments, stream_); status != nullptr)
      fail_device(fmt::format("{}{}", name_of<Arguments>(), shape_of(arguments)), status);
  }
  void upload(void* to, const void* from, uint64_t bytes) {
    if (const cuda::Status status = ops_.upload(to, from, bytes, stream_); status != nullptr)
      fail_device(fmt::format("upload of {} bytes", bytes), status);
  }
  // Returns when the bytes are there.
  void download(void* to, const void* from, uint64_t bytes) {
    if (const cuda::Status status = ops_.download(to, from, bytes, stream_); status != nullptr)
      fail_device(fmt::format("download of {} bytes", bytes), status);
    wait();
  }
  void copy(void* to, const void* from, uint64_t bytes) {
    if (const cuda::Status status = ops_.copy(to, from, bytes, stream_); status != nullptr)
      fail_device(fmt::format("copy of {} bytes", bytes), status);
  }
  void wait() { check(ops_.wait(stream_), "wait for the stream"); }

  uint64_t free_bytes() const {
    uint64_t free = 0, total = 0;
    check(ops_.memory(&free, &total), "ask for the free memory");
    return free;
  }

  // Released by ops().release(). Error(kMemory) where there is too little.
  void* allocate(uint64_t bytes) {
    void* p = nullptr;
    const cuda::Status status = ops_.allocate(bytes, &p);
    if (status != nullptr && std::string_view(status) == cuda::kOutOfMemory)
      fail(ErrorKind::kMemory, "the GPU cannot allocate {} bytes: {} are free", bytes,
           free_bytes());
    check(status, fmt::format("allocation of {} bytes", bytes));
    return p;
  }

  void begin_graph() { check(ops_.begin_graph(stream_), "begin a graph"); }
  GpuGraph end_graph();
  void launch(const GpuGraph& graph);

  // Error(kDevice) that names the operation. Work fails where it is waited for: then the fault may
  // be that of an operation before.
  static void check(cuda::Status status, std::string_view operation) {
    if (status != nullptr) fail_device(operation, status);
  }

 private:
  [[noreturn]] static void fail_device(std::string_view operation, cuda::Status status) {
    fail(ErrorKind::kDevice, "CUDA: {}: {}", operation, status);
  }
  // "QuantGemm": operations are named after their arguments.
  template <class Arguments>
  static std::string_view name_of() {
    std::string_view name = __PRETTY_FUNCTION__;
    name = name.substr(name.find("Arguments = ") + 12);
    name = name.substr(0, name.find_first_of(";]"));
    return name.substr(name.rfind(':') + 1);
  }
  template <class Arguments>
  static std::string shape_of(const Arguments& a) {
    std::string shape;
    if constexpr (requires { int64_t{a.m}; }) shape += fmt::format(" m={}", a.m);
    if constexpr (requires { int64_t{a.n}; }) shape += fmt::format(" n={}", a.n);
    if constexpr (requires { int64_t{a.k}; }) shape += fmt::format(" k={}", a.k);
    if constexpr (requires { int64_t{a.x.m}; }) shape += fmt::format(" tokens={}", a.x.m);
    if constexpr (requires { int64_t{a.positions.m}; })
      shape += fmt::format(" tokens={}", a.positions.m);
    if constexpr (requires { int64_t{a.chunks}; }) shape += fmt::format(" chunks={}", a.chunks);
    if constexpr (requires { int64_t{a.to[0].w.n}; })
      shape += fmt::format(" n={} k={}", a.to[0].w.n, a.to[0].w.k);
    return shape;
  }

  const cuda::Ops& ops_;
  const bool plans_;
  cuda::Stream stream_ = nullptr;
};

inline GpuGraph GpuDevice::end_graph() {
  cuda::Graph graph = nullptr;
  check(ops_.end_graph(stream_, &graph), "end a graph");
  return {ops_, graph};
}
inline void GpuDevice::launch(const GpuGraph& graph) {
  check(ops_.launch_graph(graph.get(), stream_), "launch a graph");
}

// Memory of a device, zeroed when it is new.
class GpuBuffer {
 public:
  GpuBuffer() = default;
  // Error(kMemory) where the device has too little.
  GpuBuffer(GpuDevice& device, uint64_t bytes) : device_(&device), bytes_(bytes) {
    if (bytes == 0) return;
    data_ = device.allocate(bytes);
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
