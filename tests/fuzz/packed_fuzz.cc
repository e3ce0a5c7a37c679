// A packed file without the obstacle of its checksums: the input is a manifest, behind two bytes
// that say where it lies; header and checksums are made to fit. What is accepted has planes inside
// the file, weights that decode, and a specification that is checked.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "core/buffer.h"
#include "core/error.h"
#include "core/hash.h"
#include "formats/packed_file.h"

namespace {

using namespace pith;

constexpr int64_t kMaxWeights = 4096;

void require(bool holds) {
  if (!holds) __builtin_trap();
}

std::vector<std::byte> file_around(std::span<const uint8_t> manifest, uint64_t offset) {
  std::vector<std::byte> file(offset + manifest.size());
  if (!manifest.empty()) std::memcpy(file.data() + offset, manifest.data(), manifest.size());
  const uint64_t fields[] = {file.size(), offset, manifest.size(), hash64(std::as_bytes(manifest)),
                             0};
  const uint32_t sizes[] = {kPackedVersion, 64};
  std::memcpy(file.data(), "\x89PITH\r\n\x1a", 8);
  std::memcpy(file.data() + 8, sizes, sizeof(sizes));
  std::memcpy(file.data() + 16, fields, sizeof(fields));
  const uint64_t header_hash = hash64(std::span(file).first(56));
  std::memcpy(file.data() + 56, &header_hash, 8);
  return file;
}

void decode_weight(const proto::WeightRecord& r, std::span<const std::byte> file) {
  Weight w{.encoding = encoding_from(r.encoding()),
           .n = static_cast<int64_t>(r.n()),
           .k = static_cast<int64_t>(r.k()),
           .planes = {},
           .owner = {}};
  for (const auto& p : r.planes()) {
    require(p.offset() <= file.size() && p.bytes() + kSlack <= file.size() - p.offset());
    w.planes.push_back({static_cast<PlaneKind>(p.kind()), file.subspan(p.offset(), p.bytes())});
  }
  if (w.k > kMaxWeights) return;
  const int64_t rows = std::min(w.n, kMaxWeights / w.k);
  std::vector<float> out(static_cast<size_t>(rows * w.k));
  decode_rows(w, 0, rows, out.data());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const uint64_t offset = 256 * static_cast<uint64_t>(data[0] + 256 * (data[1] % 16));
  if (offset < 64) return 0;
  const auto file = file_around({data + 2, size - 2}, offset);
  try {
    const PackedLayout layout = parse_packed(file, "file");
    for (const auto& l : layout.manifest.linears()) {
      for (const auto& t : l.terms()) {
        decode_weight(t.weight(), file);
        if (t.has_up()) decode_weight(t.up(), file);
      }
    }
  } catch (const Error&) {
  }
  return 0;
}
