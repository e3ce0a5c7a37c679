#include <algorithm>

#include "core/bytes.h"
#include "formats/printable.h"
#include "formats/safetensors.h"

namespace pith {
namespace {

constexpr size_t kMaxHeader = 100'000'000;

std::string quoted(const std::string& s, const std::string& path) {
  try {
    return Json(s).dump();
  } catch (const Json::exception&) {
    fail(ErrorKind::kUsage, "{}: {} is not UTF-8", path, printable(s));
  }
}

std::string header_text(const std::vector<TensorData>& tensors,
                        const std::map<std::string, std::string>& metadata,
                        const std::string& path) {
  std::string out = "{";
  if (!metadata.empty()) {
    out += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      if (out.back() != '{') out += ',';
      out += quoted(key, path) + ":" + quoted(value, path);
    }
    out += '}';
  }
  uint64_t at = 0;
  for (const auto& t : tensors) {
    if (out.size() > 1) out += ',';
    const uint64_t end = at + t.bytes.size();
    out += fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                       quoted(t.name, path), info(t.dtype).safetensors, fmt::join(t.shape, ","), at,
                       end);
    at = end;
  }
  out += '}';
  out.resize(round_up(out.size(), 8), ' ');
  if (out.size() > kMaxHeader) {
    fail(ErrorKind::kUsage, "{}: header of {} bytes, at most {} are allowed", path, out.size(),
         kMaxHeader);
  }
  return out;
}

void check(const std::vector<TensorData>& sorted, const std::string& path) {
  std::vector<std::string_view> names;
  for (const auto& t : sorted) {
    names.push_back(t.name);
    uint64_t bytes = info(t.dtype).bytes;
    for (const int64_t d : t.shape) {
      if (d < 0)
        fail(ErrorKind::kUsage, "{}: tensor {} has a negative size", path, printable(t.name));
      bytes = checked_mul(bytes, static_cast<uint64_t>(d), t.name);
    }
    if (bytes != t.bytes.size()) {
      fail(ErrorKind::kUsage, "{}: tensor {} needs {} bytes, {} are given", path, printable(t.name),
           bytes, t.bytes.size());
    }
    if (t.name == "__metadata__")
      fail(ErrorKind::kUsage, "{}: no tensor may be named __metadata__", path);
  }
  std::sort(names.begin(), names.end());
  if (const auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end()) {
    fail(ErrorKind::kUsage, "{}: tensor {} is given twice", path, printable(*twice));
  }
}

}  // namespace

void write_safetensors(const std::string& path, std::vector<TensorData> tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorData& a, const TensorData& b) {
    const uint32_t x = info(a.dtype).bytes, y = info(b.dtype).bytes;
    return x != y ? x > y : a.name < b.name;
  });
  check(tensors, path);
  const std::string header = header_text(tensors, metadata, path);
  const uint64_t length = header.size();
  uint64_t total = 8 + length;
  for (const auto& t : tensors) total += t.bytes.size();
  NewFile file(path, total);
  file.append(std::as_bytes(std::span(&length, 1)));
  file.append(as_bytes(header));
  for (const auto& t : tensors) file.append(t.bytes);
  file.commit();
}

}  // namespace pith
