// safetensors files as bytes, made by hand, right or wrong.
#pragma once

#include <string>
#include <string_view>

#include "core/bytes.h"
#include "formats/safetensors.h"

namespace pith::test {

inline std::string u64_bytes(uint64_t v) { return {reinterpret_cast<const char*>(&v), sizeof(v)}; }

inline std::string safetensors_bytes(std::string_view header, uint64_t data_bytes) {
  return u64_bytes(header.size()) + std::string(header) + std::string(data_bytes, '\x5a');
}

inline SafetensorsHeader parse_whole(std::string_view bytes) {
  return parse_safetensors(as_bytes(bytes), bytes.size(), "file");
}

inline SafetensorsHeader parse_text(std::string_view header, uint64_t data_bytes) {
  return parse_whole(safetensors_bytes(header, data_bytes));
}

}  // namespace pith::test
