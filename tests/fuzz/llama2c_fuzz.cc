// The size that seven numbers call for, counted here in 128 bits: the parser takes that size and no
// other.

#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "formats/llama2c.h"

namespace {

using Wide = __int128;

Wide file_bytes(const int32_t* v) {
  const Wide dim = v[0], hidden = v[1], layers = v[2], heads = v[3], kv_heads = v[4],
             vocab = v[5] < 0 ? -Wide(v[5]) : v[5];
  const Wide head = heads > 0 ? dim / heads : 0, kv = head * kv_heads;
  const Wide layer = dim + dim * dim + kv * dim + kv * dim + dim * dim + dim + 3 * hidden * dim;
  return 28 + 4 * (vocab * dim * (v[5] < 0 ? 2 : 1) + layers * layer + dim + v[6] * head);
}

bool parses(std::span<const std::byte> bytes, uint64_t file_size) {
  bool parsed = true;
  try {
    const auto header = pith::parse_llama2c(bytes, file_size, "file");
    for (const auto& t : header.tensors) {
      if (t.offset < 28 || t.bytes > file_size || t.offset > file_size - t.bytes) std::abort();
    }
  } catch (const pith::Error&) {
    parsed = false;
  }
  if (parsed != pith::looks_like_llama2c(bytes, file_size)) std::abort();
  return parsed;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  const bool as_it_is = parses(bytes, size);
  if (size < 28) {
    if (as_it_is) std::abort();
    return 0;
  }
  int32_t v[7];
  std::memcpy(v, data, sizeof(v));
  const Wide wanted = file_bytes(v);
  if (as_it_is && wanted != static_cast<Wide>(size)) std::abort();
  // Thousands of layers take time and show nothing new.
  if (wanted < 28 || wanted > (Wide{1} << 62) || v[2] > 16) return 0;
  parses(bytes, static_cast<uint64_t>(wanted));
  if (parses(bytes, static_cast<uint64_t>(wanted) + 1) ||
      parses(bytes, static_cast<uint64_t>(wanted) - 1))
    std::abort();
  return 0;
}
