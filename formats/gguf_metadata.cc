#include "formats/gguf_metadata.h"

#include <array>
#include <type_traits>
#include <utility>

#include "core/error.h"
#include "formats/printable.h"

namespace pith {
namespace {

const char* describe(const GgufValue& value) {
  static constexpr std::array<const char*, std::variant_size_v<GgufValue>> kWords = {
      "an unsigned integer",
      "a signed integer",
      "a float",
      "a bool",
      "a string",
      "an array of unsigned integers",
      "an array of signed integers",
      "an array of floats",
      "an array of bools",
      "an array of strings"};
  return kWords[value.index()];
}

const GgufValue& require(const GgufMetadata& m, std::string_view key) {
  const GgufValue* value = m.find(key);
  if (value == nullptr) fail(ErrorKind::kCorrupt, "{}: {} is missing", m.file, key);
  return *value;
}

[[noreturn]] void fail_type(const GgufMetadata& m, std::string_view key, const GgufValue& value,
                            const char* expected) {
  fail(ErrorKind::kCorrupt, "{}: {} is {}, expected {}", m.file, key, describe(value), expected);
}

// The value of `key` as it is stored, which must be a T.
template <class T>
const T& require_as(const GgufMetadata& m, std::string_view key, const char* expected) {
  const GgufValue& value = require(m, key);
  const T* v = std::get_if<T>(&value);
  if (v == nullptr) fail_type(m, key, value, expected);
  return *v;
}

// Element `at` of an array; without `at`, the value that all its elements share. Returns other
// values unchanged.
GgufValue element(const GgufMetadata& m, std::string_view key, std::optional<size_t> at) {
  return std::visit(
      [&]<class T>(const T& v) -> GgufValue {
        if constexpr (std::is_same_v<T, std::vector<uint64_t>> ||
                      std::is_same_v<T, std::vector<int64_t>> ||
                      std::is_same_v<T, std::vector<double>> ||
                      std::is_same_v<T, std::vector<bool>>) {
          if (at.value_or(0) >= v.size()) {
            fail(ErrorKind::kCorrupt, "{}: {} has {} values, one of layer {} is needed", m.file,
                 printable(key), v.size(), at.value_or(0));
          }
          if (at) return typename T::value_type(v[*at]);
          for (size_t i = 1; i < v.size(); ++i) {
            if (v[i] != v[0]) {
              fail(ErrorKind::kUnsupported,
                   "{}: {} differs from layer to layer, which is not supported", m.file,
                   printable(key));
            }
          }
          return typename T::value_type(v[0]);
        } else {
          return v;
        }
      },
      require(m, key));
}

uint64_t to_uint(const GgufMetadata& m, std::string_view key, const GgufValue& value) {
  if (const auto* u = std::get_if<uint64_t>(&value)) return *u;
  const auto* i = std::get_if<int64_t>(&value);
  if (i == nullptr) fail_type(m, key, value, "an unsigned integer");
  if (*i < 0) {
    fail(ErrorKind::kCorrupt, "{}: {} is {}, expected 0 or more", m.file, key, *i);
  }
  return static_cast<uint64_t>(*i);
}

}  // namespace

const GgufValue* GgufMetadata::find(std::string_view key) const {
  const auto it = values.find(key);
  return it == values.end() ? nullptr : &it->second;
}

uint64_t GgufMetadata::uint(std::string_view key, std::optional<uint64_t> missing) const {
  if (missing && !has(key)) return *missing;
  return to_uint(*this, key, element(*this, key, {}));
}

uint64_t GgufMetadata::uint_of_layer(std::string_view key, size_t layer,
                                     std::optional<uint64_t> missing) const {
  if (missing && !has(key)) return *missing;
  return to_uint(*this, key, element(*this, key, layer));
}

double GgufMetadata::number(std::string_view key, std::optional<double> missing) const {
  if (missing && !has(key)) return *missing;
  const GgufValue value = element(*this, key, {});
  if (const auto* d = std::get_if<double>(&value)) return *d;
  if (const auto* u = std::get_if<uint64_t>(&value)) return static_cast<double>(*u);
  if (const auto* i = std::get_if<int64_t>(&value)) return static_cast<double>(*i);
  fail_type(*this, key, value, "a number");
}

bool GgufMetadata::boolean(std::string_view key, std::optional<bool> missing) const {
  if (missing && !has(key)) return *missing;
  const GgufValue value = element(*this, key, {});
  if (const auto* b = std::get_if<bool>(&value)) return *b;
  fail_type(*this, key, value, "a bool");
}

std::string GgufMetadata::text(std::string_view key, std::optional<std::string> missing) const {
  if (missing && !has(key)) return *std::move(missing);
  return require_as<std::string>(*this, key, "a string");
}

const std::vector<std::string>& GgufMetadata::texts(std::string_view key) const {
  return require_as<std::vector<std::string>>(*this, key, "an array of strings");
}

std::vector<double> GgufMetadata::numbers(std::string_view key) const {
  const GgufValue& value = require(*this, key);
  if (const auto* d = std::get_if<std::vector<double>>(&value)) return *d;
  std::vector<double> result;
  const auto widen = [&result](const auto& from) {
    result.reserve(from.size());
    for (const auto v : from) result.push_back(static_cast<double>(v));
  };
  if (const auto* u = std::get_if<std::vector<uint64_t>>(&value)) {
    widen(*u);
  } else if (const auto* i = std::get_if<std::vector<int64_t>>(&value)) {
    widen(*i);
  } else {
    fail_type(*this, key, value, "an array of numbers");
  }
  return result;
}

std::vector<int64_t> GgufMetadata::integers(std::string_view key) const {
  const GgufValue& value = require(*this, key);
  if (const auto* i = std::get_if<std::vector<int64_t>>(&value)) return *i;
  const auto* u = std::get_if<std::vector<uint64_t>>(&value);
  if (u == nullptr) fail_type(*this, key, value, "an array of integers");
  std::vector<int64_t> result;
  result.reserve(u->size());
  for (const uint64_t v : *u) {
    if (!std::in_range<int64_t>(v)) {
      fail(ErrorKind::kCorrupt, "{}: {} holds {}, which does not fit in 64 bits with a sign", file,
           key, v);
    }
    result.push_back(static_cast<int64_t>(v));
  }
  return result;
}

}  // namespace pith
