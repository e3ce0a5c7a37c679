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

void append_bytes(std::string& to, const void* from, size_t n) {
  to.append(static_cast<const char*>(from), n);
}
template <class T>
void put(std::string& to, T v) {
  append_bytes(to, &v, sizeof(T));
}
void put_text(std::string& to, std::string_view s) {
  put<uint64_t>(to, s.size());
  to.append(s);
}

// Elements of the narrowest type of those that files use which holds all of them.
template <class Narrow, class WideType>
void put_elements(std::string& to, std::span<const WideType> items) {
  for (const WideType v : items) put(to, static_cast<Narrow>(v));
}
template <class Narrow, class WideType>
bool all_fit(std::span<const WideType> items) {
  return std::all_of(items.begin(), items.end(), [](WideType v) {
    if constexpr (std::is_floating_point_v<WideType>) {
      // Beyond the range of a float the conversion would be undefined.
      if (std::isfinite(v) && std::fabs(v) > double{std::numeric_limits<Narrow>::max()})
        return false;
      return std::isnan(v) || static_cast<double>(static_cast<Narrow>(v)) == v;
    } else {
      return std::in_range<Narrow>(v);
    }
  });
}

struct NumberTypes {
  ValueType narrow, wide;
};
template <class WideType>
using Narrow =
    std::conditional_t<std::is_floating_point_v<WideType>, float,
                       std::conditional_t<std::is_unsigned_v<WideType>, uint32_t, int32_t>>;
template <class WideType>
constexpr NumberTypes kNumberTypes = std::is_floating_point_v<WideType> ? NumberTypes{kF32, kF64}
                                     : std::is_unsigned_v<WideType>     ? NumberTypes{kU32, kU64}
                                                                        : NumberTypes{kI32, kI64};

// `type`, then what `between` writes, then the items.
template <class WideType, class Between>
void put_numbers(std::string& to, std::span<const WideType> items, Between between) {
  const bool narrow = all_fit<Narrow<WideType>>(items);
  put<uint32_t>(to, narrow ? kNumberTypes<WideType>.narrow : kNumberTypes<WideType>.wide);
  between();
  if (narrow) {
    put_elements<Narrow<WideType>>(to, items);
  } else {
    put_elements<WideType>(to, items);
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
