// The whole input as a GGUF file. What parses is written again and read back, and the first blocks
// of every tensor are decoded.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "formats/encodings/ggml.h"
#include "formats/gguf.h"

namespace {

using namespace pith;

constexpr int64_t kMaxWeights = 1024;

void require(bool holds) {
  if (!holds) __builtin_trap();
}

void decode_first_row(const TensorInfo& t, std::span<const std::byte> file) {
  require(t.offset <= file.size() && t.bytes <= file.size() - t.offset);
  if (t.encoding.kind != EncodingKind::kGgml || t.bytes == 0) return;
  const int64_t k = t.shape.back();
  if (k > kMaxWeights) return;
  const Weight w{.encoding = t.encoding,
                 .n = 1,
                 .k = k,
                 .planes = {{PlaneKind::kCodes, file.subspan(t.offset, t.bytes)}},
                 .owner = {}};
  std::vector<float> out(static_cast<size_t>(k));
  kGgmlOps.decode(w, 0, 1, out.data());
}

void parse_everything(std::span<const std::byte> file) {
  const GgufHeader header = parse_gguf(file, file.size(), "fuzz");
  for (const TensorInfo& t : header.tensors) decode_first_row(t, file);

  // Pairs without tensors are a header again; a NaN differs from itself, so keys are compared.
  const std::string written = write_gguf_metadata(header.metadata, "");
  const GgufHeader back = parse_gguf(std::as_bytes(std::span(written)), written.size(), "written");
  const auto same_key = [](const auto& a, const auto& b) {
    return a.first == b.first && a.second.index() == b.second.index();
  };
  const auto& before = header.metadata.values;
  const auto& after = back.metadata.values;
  require(std::equal(before.begin(), before.end(), after.begin(), after.end(), same_key));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = std::as_bytes(std::span(data, size));
  try {
    parse_everything(file);
  } catch (const Error&) {
  }
  return 0;
}
