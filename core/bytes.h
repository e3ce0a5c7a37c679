// Reading untrusted little-endian bytes. Every read is checked against what remains; arithmetic on
// values from a file goes through checked_add and checked_mul, the only places that do it.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "core/error.h"

namespace pith {

static_assert(std::endian::native == std::endian::little, "pith reads its formats in place");

// a + b, a * b; Error(kCorrupt) naming `what` where the result does not fit in 64 bits.
inline uint64_t checked_add(uint64_t a, uint64_t b, std::string_view what) {
  uint64_t r;
  if (__builtin_add_overflow(a, b, &r))
    fail(ErrorKind::kCorrupt, "{}: {} + {} overflows", what, a, b);
  return r;
}
inline uint64_t checked_mul(uint64_t a, uint64_t b, std::string_view what) {
  uint64_t r;
  if (__builtin_mul_overflow(a, b, &r))
    fail(ErrorKind::kCorrupt, "{}: {} * {} overflows", what, a, b);
  return r;
}

// v as To; Error(kCorrupt) naming `what` where it does not fit.
template <std::integral To, std::integral From>
To checked_cast(From v, std::string_view what) {
  if (!std::in_range<To>(v)) fail(ErrorKind::kCorrupt, "{}: {} is out of range", what, v);
  return static_cast<To>(v);
}

constexpr uint64_t round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }
constexpr int64_t ceil_div(int64_t n, int64_t by) { return (n + by - 1) / by; }

// Appends the little-endian bytes of a number.
template <class T>
requires std::is_arithmetic_v<T>
void append_value(std::string* to, T value) {
  to->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// A cursor over bytes that stay owned by the caller. `name` begins every message.
class ByteReader {
 public:
  ByteReader(std::span<const std::byte> data, std::string name)
      : data_(data), name_(std::move(name)) {}

  uint64_t offset() const { return offset_; }
  uint64_t remaining() const { return data_.size() - offset_; }
  const std::string& name() const { return name_; }

  template <class T>
  requires std::is_arithmetic_v<T> T read(std::string_view what) {
    T v;
    std::memcpy(&v, bytes(sizeof(T), what).data(), sizeof(T));
    return v;
  }

  std::span<const std::byte> bytes(uint64_t n, std::string_view what) {
    if (n > remaining()) {
      fail(ErrorKind::kCorrupt, "{}: {} at offset {} needs {} bytes, {} remain", name_, what,
           offset_, n, remaining());
    }
    auto r = data_.subspan(offset_, n);
    offset_ += n;
    return r;
  }

  std::string_view text(uint64_t n, std::string_view what) {
    auto b = bytes(n, what);
    return {reinterpret_cast<const char*>(b.data()), b.size()};
  }

  // A count of items of at least `item_bytes` each: refused where they cannot fit in what remains,
  // so that the caller may reserve memory for it.
  uint64_t count(uint64_t n, uint64_t item_bytes, std::string_view what) {
    if (n > remaining() / item_bytes) {
      fail(ErrorKind::kCorrupt,
           "{}: {} at offset {} is {}, more than the {} bytes that remain can hold", name_, what,
           offset_, n, remaining());
    }
    return n;
  }

 private:
  std::span<const std::byte> data_;
  std::string name_;
  uint64_t offset_ = 0;
};

inline std::span<const std::byte> as_bytes(std::string_view s) {
  return {reinterpret_cast<const std::byte*>(s.data()), s.size()};
}
inline std::string_view as_text(std::span<const std::byte> b) {
  return {reinterpret_cast<const char*>(b.data()), b.size()};
}

}  // namespace pith
