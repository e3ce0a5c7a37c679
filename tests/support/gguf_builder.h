// Makes GGUF files for tests, right ones and wrong ones: pairs and tensors appear in the order they
// are added, and everything that a reader has to distrust (counts, types, sizes, offsets, values)
// can be given raw.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pith::test {

// Little-endian bytes of scalars; strings with their length in front.
template <class T>
std::string le(T v) {
  return {reinterpret_cast<const char*>(&v), sizeof(T)};
}
inline std::string gguf_text(std::string_view s) { return le<uint64_t>(s.size()).append(s); }

// The number of each value type in a file.
template <class T>
constexpr uint32_t kGgufTypeOf = ~0u;
template <>
inline constexpr uint32_t kGgufTypeOf<uint8_t> = 0;
template <>
inline constexpr uint32_t kGgufTypeOf<int8_t> = 1;
template <>
inline constexpr uint32_t kGgufTypeOf<uint16_t> = 2;
template <>
inline constexpr uint32_t kGgufTypeOf<int16_t> = 3;
template <>
inline constexpr uint32_t kGgufTypeOf<uint32_t> = 4;
template <>
inline constexpr uint32_t kGgufTypeOf<int32_t> = 5;
template <>
inline constexpr uint32_t kGgufTypeOf<float> = 6;
template <>
inline constexpr uint32_t kGgufTypeOf<bool> = 7;
template <>
inline constexpr uint32_t kGgufTypeOf<std::string> = 8;
template <>
inline constexpr uint32_t kGgufTypeOf<uint64_t> = 10;
template <>
inline constexpr uint32_t kGgufTypeOf<int64_t> = 11;
template <>
inline constexpr uint32_t kGgufTypeOf<double> = 12;
inline constexpr uint32_t kGgufArray = 9;

template <class T>
std::string gguf_scalar(const T& v) {
  if constexpr (std::is_same_v<T, std::string>) {
    return gguf_text(v);
  } else {
    return le<T>(v);
  }
}

class GgufBuilder {
 public:
  std::string magic = "GGUF";
  uint32_t version = 3;
  uint64_t alignment = 32;  // of tensor offsets and the data; no pair is added for it
  std::optional<uint64_t> declared_pairs, declared_tensors;

  GgufBuilder& raw_pair(std::string_view key, uint32_t type, std::string_view value) {
    pairs_ += gguf_text(key) + le(type);
    pairs_ += value;
    ++pair_count_;
    return *this;
  }
  template <class T>
  GgufBuilder& pair(std::string_view key, const T& value) {
    return raw_pair(key, kGgufTypeOf<T>, gguf_scalar(value));
  }
  GgufBuilder& pair(std::string_view key, const char* value) {
    return pair(key, std::string(value));
  }
  template <class T>
  GgufBuilder& array(std::string_view key, const std::vector<T>& items) {
    std::string value = le(kGgufTypeOf<T>) + le<uint64_t>(items.size());
    for (const T& item : items) value += gguf_scalar<T>(item);
    return raw_pair(key, kGgufArray, value);
  }

  // `sizes` innermost first, as in the file; data follow those of the tensor before, aligned.
  GgufBuilder& tensor(std::string_view name, uint32_t type, const std::vector<uint64_t>& sizes,
                      std::string_view data) {
    data_.resize((data_.size() + alignment - 1) / alignment * alignment);
    raw_tensor(name, static_cast<uint32_t>(sizes.size()), sizes, type, data_.size());
    data_ += data;
    return *this;
  }
  // An entry alone.
  GgufBuilder& raw_tensor(std::string_view name, uint32_t dimensions,
                          const std::vector<uint64_t>& sizes, uint32_t type, uint64_t offset) {
    tensors_ += gguf_text(name) + le(dimensions);
    for (const uint64_t size : sizes) tensors_ += le(size);
    tensors_ += le(type) + le(offset);
    ++tensor_count_;
    return *this;
  }
  GgufBuilder& raw_data(std::string_view data) {
    data_ += data;
    return *this;
  }

  std::string header() const {
    return magic + le(version) + le(declared_tensors.value_or(tensor_count_)) +
           le(declared_pairs.value_or(pair_count_)) + pairs_ + tensors_;
  }
  // Padding is left out where no data follow, as writers of vocabulary files do.
  std::string build() const {
    std::string file = header();
    if (data_.empty()) return file;
    file.resize((file.size() + alignment - 1) / alignment * alignment);
    return file + data_;
  }

 private:
  std::string pairs_, tensors_, data_;
  uint64_t pair_count_ = 0, tensor_count_ = 0;
};

}  // namespace pith::test
