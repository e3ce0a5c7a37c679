#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>

#include "formats/gguf.h"
#include "formats/gguf_internal.h"

namespace pith {

using namespace gguf;

namespace {

template <class T>
void put(std::string& to, T v) {
  to.append(reinterpret_cast<const char*>(&v), sizeof(T));
}
void put_text(std::string& to, std::string_view s) {
  put<uint64_t>(to, s.size());
  to.append(s);
}

// Numbers are written in 32 bits where all of them fit, as most writers declare them, else in 64.
template <class Wide>
struct NumberType;
template <>
struct NumberType<uint64_t> {
  using Narrow = uint32_t;
  static constexpr ValueType kNarrow = kU32, kWide = kU64;
  static bool fits(uint64_t v) { return std::in_range<Narrow>(v); }
};
template <>
struct NumberType<int64_t> {
  using Narrow = int32_t;
  static constexpr ValueType kNarrow = kI32, kWide = kI64;
  static bool fits(int64_t v) { return std::in_range<Narrow>(v); }
};
template <>
struct NumberType<double> {
  using Narrow = float;
  static constexpr ValueType kNarrow = kF32, kWide = kF64;
  static bool fits(double v) {
    if (!std::isfinite(v)) return true;
    constexpr auto kMax = static_cast<double>(std::numeric_limits<float>::max());
    return std::fabs(v) <= kMax && static_cast<double>(static_cast<float>(v)) == v;
  }
};

// The type of the elements, then what `between` writes, then the elements.
template <class Wide, class Between>
void put_numbers(std::string& to, std::span<const Wide> items, Between between) {
  using Type = NumberType<Wide>;
  const bool narrow = std::all_of(items.begin(), items.end(), Type::fits);
  put<uint32_t>(to, narrow ? Type::kNarrow : Type::kWide);
  between();
  for (const Wide v : items) {
    if (narrow) {
      put(to, static_cast<typename Type::Narrow>(v));
    } else {
      put(to, v);
    }
  }
}

void put_value(std::string& to, const GgufValue& value) {
  std::visit(
      [&to]<class T>(const T& v) {
        if constexpr (std::is_same_v<T, bool>) {
          put<uint32_t>(to, kBool);
          put<uint8_t>(to, v);
        } else if constexpr (std::is_arithmetic_v<T>) {
          put_numbers(to, std::span<const T>(&v, 1), [] {});
        } else if constexpr (std::is_same_v<T, std::string>) {
          put<uint32_t>(to, kString);
          put_text(to, v);
        } else if constexpr (std::is_same_v<T, std::vector<bool>>) {
          put<uint32_t>(to, kArray);
          put<uint32_t>(to, kBool);
          put<uint64_t>(to, v.size());
          for (const bool b : v) put<uint8_t>(to, b);
        } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
          put<uint32_t>(to, kArray);
          put<uint32_t>(to, kString);
          put<uint64_t>(to, v.size());
          for (const std::string& s : v) put_text(to, s);
        } else {
          put<uint32_t>(to, kArray);
          put_numbers(to, std::span<const typename T::value_type>(v),
                      [&] { put<uint64_t>(to, v.size()); });
        }
      },
      value);
}

}  // namespace

std::string write_gguf_metadata(const GgufMetadata& metadata, std::string_view key_prefix) {
  std::string pairs;
  uint64_t n = 0;
  for (auto it = metadata.values.lower_bound(key_prefix);
       it != metadata.values.end() && it->first.starts_with(key_prefix); ++it, ++n) {
    put_text(pairs, it->first);
    put_value(pairs, it->second);
  }
  std::string header(kMagic);
  put<uint32_t>(header, 3);
  put<uint64_t>(header, 0);
  put<uint64_t>(header, n);
  return header + pairs;
}

}  // namespace pith
