// The key-value pairs of a GGUF file. Values keep their declared type; the getters convert between
// integer types where the value fits and name the key where it does not.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace pith {

// Integers widen to 64 bits and floats to double on reading; arrays likewise. Arrays of arrays do
// not exist here.
using GgufValue = std::variant<uint64_t, int64_t, double, bool, std::string, std::vector<uint64_t>,
                               std::vector<int64_t>, std::vector<double>, std::vector<bool>,
                               std::vector<std::string>>;

class GgufMetadata {
 public:
  std::map<std::string, GgufValue, std::less<>> values;
  std::string file;  // for messages

  const GgufValue* find(std::string_view key) const;
  bool has(std::string_view key) const { return find(key) != nullptr; }
  // One value for the whole model. Where the file has one for each layer and all are equal: that
  // one.
  uint64_t uint(std::string_view key, std::optional<uint64_t> missing = {}) const;
  double number(std::string_view key, std::optional<double> missing = {}) const;
  bool boolean(std::string_view key, std::optional<bool> missing = {}) const;
  std::string text(std::string_view key, std::optional<std::string> missing = {}) const;
  // The value for one layer, of an array with a value for each or of one value for all.
  uint64_t uint_of_layer(std::string_view key, size_t layer,
                         std::optional<uint64_t> missing = {}) const;
  const std::vector<std::string>& texts(std::string_view key) const;
  std::vector<double> numbers(std::string_view key) const;    // of any numeric array
  std::vector<int64_t> integers(std::string_view key) const;  // of any integer array
};

}  // namespace pith
