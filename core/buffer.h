// Owned, 64-byte-aligned, zeroed memory with kSlack readable bytes behind its end, so that a kernel
// may load a whole vector at the last element.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>

namespace pith {

inline constexpr size_t kSlack = 64;

std::byte* allocate_aligned(uint64_t count, uint64_t item_bytes);  // Error(kMemory) with the size
void free_aligned(std::byte* p) noexcept;

template <class T>
requires std::is_trivially_copyable_v<T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t size)
      : data_(reinterpret_cast<T*>(allocate_aligned(static_cast<uint64_t>(size), sizeof(T)))),
        size_(size) {}

  // Takes over memory of allocate_aligned().
  static Buffer adopt(T* data, int64_t size) {
    Buffer b;
    b.data_.reset(data);
    b.size_ = size;
    return b;
  }

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  int64_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T& operator[](int64_t i) { return data_.get()[i]; }
  const T& operator[](int64_t i) const { return data_.get()[i]; }
  T* begin() { return data(); }
  T* end() { return data() + size_; }
  const T* begin() const { return data(); }
  const T* end() const { return data() + size_; }
  std::span<T> span() { return {data(), static_cast<size_t>(size_)}; }
  std::span<const T> span() const { return {data(), static_cast<size_t>(size_)}; }

  // At least n elements; the old content is not kept.
  void require(int64_t n) {
    if (n > size_) *this = Buffer(n);
  }

 private:
  struct Free {
    void operator()(T* p) const noexcept { free_aligned(reinterpret_cast<std::byte*>(p)); }
  };
  std::unique_ptr<T, Free> data_;
  int64_t size_ = 0;
};

}  // namespace pith
