// Levels of CPU kernels for tests, and memory that faults just behind what may be read.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <span>

#include "core/buffer.h"
#include "core/error.h"
#include "formats/encodings/encoding.h"
#include "runtime/cpu/kernels.h"

namespace pith::test {

// Those of this processor, and those that it lacks but whose text it can run: AVX-VNNI by the
// 256-bit form of AVX-512 VNNI, AMX by a model of its instructions on top of AVX-512.
std::span<const CpuKernels* const> kernel_levels();

// `bytes` of memory, then `slack` that can be read, then a page that cannot.
class GuardedMemory {
 public:
  explicit GuardedMemory(size_t bytes, size_t slack = kSlack) : bytes_(bytes) {
    const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    const size_t readable = (bytes + slack + page - 1) / page * page;
    mapped_ = readable + page;
    base_ = ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base_ == MAP_FAILED) fail(ErrorKind::kMemory, "cannot map {} bytes", mapped_);
    auto* const wall = static_cast<std::byte*>(base_) + readable;
    if (::mprotect(wall, page, PROT_NONE) != 0) fail(ErrorKind::kIo, "cannot protect a page");
    begin_ = wall - slack - bytes;
  }
  ~GuardedMemory() { ::munmap(base_, mapped_); }
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;

  std::byte* data() { return begin_; }
  template <class T>
  T* as() {
    return reinterpret_cast<T*>(begin_);
  }
  std::span<std::byte> span() { return {begin_, bytes_}; }

 private:
  void* base_;
  size_t mapped_, bytes_;
  std::byte* begin_;
};

// The same weight with every plane at the end of what can be read.
inline Weight guarded_copy(const Weight& w) {
  Weight out = w;
  auto memory = std::make_shared<std::vector<std::unique_ptr<GuardedMemory>>>();
  for (auto& plane : out.planes) {
    memory->push_back(std::make_unique<GuardedMemory>(plane.bytes.size()));
    if (!plane.bytes.empty())
      std::memcpy(memory->back()->data(), plane.bytes.data(), plane.bytes.size());
    plane.bytes = memory->back()->span();
  }
  out.owner = std::move(memory);
  return out;
}

}  // namespace pith::test
