// parse_safetensors against a plain checker that reads the header as a tree: both accept, with the
// same tensors, or both refuse.

#include <algorithm>
#include <cstdlib>
#include <string>
#include <tuple>

#include "core/bytes.h"
#include "core/json.h"
#include "formats/safetensors.h"

namespace {

using pith::Json;

// Bits of an element; 0 for what is no type.
uint64_t bits_of(const std::string& dtype) {
  if (const auto known = pith::dtype_from_safetensors(dtype)) return 8 * pith::info(*known).bytes;
  const std::pair<const char*, uint64_t> kOthers[] = {
      {"BOOL", 8},    {"I16", 16},        {"U16", 16},       {"U32", 32},    {"U64", 64},
      {"F64", 64},    {"C64", 64},        {"F4", 4},         {"F6_E2M3", 6}, {"F6_E3M2", 6},
      {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}};
  for (const auto& [name, bits] : kOthers) {
    if (dtype == name) return bits;
  }
  return 0;
}

struct Plain {
  std::string name, dtype;
  std::vector<uint64_t> shape;
  uint64_t begin, end;
};

bool uints(const Json& j, std::vector<uint64_t>* to) {
  if (!j.is_array()) return false;
  for (const Json& v : j) {
    if (!v.is_number_unsigned()) return false;
    to->push_back(v.get<uint64_t>());
  }
  return true;
}

bool read_tensor(const Json& j, Plain* to) {
  std::vector<uint64_t> offsets;
  if (!j.is_object() || j.size() != 3 || !j.contains("dtype") || !j.contains("shape") ||
      !j.contains("data_offsets")) {
    return false;
  }
  if (!j["dtype"].is_string() || !uints(j["shape"], &to->shape) ||
      !uints(j["data_offsets"], &offsets))
    return false;
  to->dtype = j["dtype"].get<std::string>();
  const uint64_t element = bits_of(to->dtype);
  if (element == 0 || offsets.size() != 2 || to->shape.size() > 64) return false;
  to->begin = offsets[0];
  to->end = offsets[1];
  unsigned __int128 bytes = 1;
  for (const uint64_t d : to->shape) {
    if (d >> 63 != 0) return false;
    bytes *= d;
    if (bytes >> 64 != 0) return false;
  }
  bytes *= element;
  return to->begin <= to->end && bytes % 8 == 0 && bytes / 8 == to->end - to->begin;
}

bool plain_check(std::string_view file, std::vector<Plain>* tensors) {
  if (file.size() < 8) return false;
  uint64_t n;
  std::memcpy(&n, file.data(), 8);
  if (n > 100'000'000 || n > file.size() - 8) return false;
  std::string text(file.substr(8, n));
  const uint64_t data = file.size() - 8 - n;
  while (!text.empty() && text.back() == ' ') text.pop_back();
  if (text.empty() || text.front() != '{' || text.back() != '}' || text.find('\0') != text.npos)
    return false;
  // Stricter than parse_json, which reads what Python does.
  if (!Json::accept(text)) return false;
  Json header;
  std::vector<std::string> duplicates;
  try {
    header = pith::parse_json(text, "", 64, &duplicates);
  } catch (const pith::Error&) {
    return false;
  }
  if (!duplicates.empty()) return false;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      if (!value.is_object()) return false;
      for (const Json& v : value) {
        if (!v.is_string()) return false;
      }
      continue;
    }
    Plain t;
    if (!read_tensor(value, &t)) return false;
    t.name = name;
    tensors->push_back(t);
  }
  std::sort(tensors->begin(), tensors->end(), [](const Plain& a, const Plain& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  uint64_t at = 0;
  for (const Plain& t : *tensors) {
    if (t.begin != at) return false;
    at = t.end;
  }
  return at == data;
}

void compare(std::string_view file) {
  std::vector<Plain> plain;
  const bool expected = plain_check(file, &plain);
  bool accepted = true;
  pith::SafetensorsHeader header;
  try {
    header = pith::parse_safetensors(pith::as_bytes(file), file.size(), "file");
  } catch (const pith::Error&) {
    accepted = false;
  }
  if (accepted != expected) std::abort();
  if (!accepted) return;
  if (!pith::looks_like_safetensors(pith::as_bytes(file), file.size())) std::abort();
  std::erase_if(plain, [](const Plain& t) {
    return t.dtype != "F64" && !pith::dtype_from_safetensors(t.dtype);
  });
  if (header.tensors.size() != plain.size()) std::abort();
  for (size_t i = 0; i < plain.size(); ++i) {
    const auto& t = header.tensors[i];
    const uint64_t stored = t.f64 ? 2 * t.bytes : t.bytes;
    if (t.name != plain[i].name || t.offset + stored > file.size() ||
        stored != plain[i].end - plain[i].begin) {
      std::abort();
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  compare(input);
  // Most mutations break the length and no more. So once again as a header of the right length;
  // what follows the last brace is the data.
  const size_t close = input.rfind('}');
  if (size <= 8 || close == input.npos || close < 8) return 0;
  const uint64_t length = close + 1 - 8;
  std::string file(reinterpret_cast<const char*>(&length), 8);
  file += input.substr(8, length);
  file += std::string(size - 8 - length, 'x');
  compare(file);
  return 0;
}
