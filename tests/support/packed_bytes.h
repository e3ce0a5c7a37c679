// The header of a packed file, spelled out once more and without the library: tests take a file
// apart, change one thing and put checksums over it again, so that the rule is what they meet.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "core/bytes.h"
#include "core/hash.h"
#include "pith.pb.h"

namespace pith::test {

struct PackedHeader {
  char magic[8];
  uint32_t version, header_bytes;
  uint64_t file_bytes, manifest_offset, manifest_bytes, manifest_xxh3, reserved, header_xxh3;
};
static_assert(sizeof(PackedHeader) == 64);
inline constexpr char kPackedMagic[] = "\x89PITH\r\n\x1a";

inline PackedHeader packed_header(std::string_view file) {
  PackedHeader h;
  std::memcpy(&h, file.data(), sizeof(h));
  return h;
}

// The file with this header and a right checksum of it.
inline std::string with_packed_header(std::string file, PackedHeader h) {
  h.header_xxh3 = hash64(std::as_bytes(std::span(&h, 1)).first(sizeof(h) - sizeof(uint64_t)));
  return file.replace(0, sizeof(h), reinterpret_cast<const char*>(&h), sizeof(h));
}

inline std::string packed_manifest_bytes(const std::string& file) {
  return file.substr(packed_header(file).manifest_offset);
}
inline proto::Manifest packed_manifest(const std::string& file) {
  proto::Manifest m;
  m.ParseFromString(packed_manifest_bytes(file));
  return m;
}

// The file's planes as they are, then this manifest; sizes and checksums are right.
inline std::string with_manifest_bytes(const std::string& file, std::string_view manifest) {
  PackedHeader h = packed_header(file);
  h.manifest_bytes = manifest.size();
  h.manifest_xxh3 = hash64(as_bytes(manifest));
  h.file_bytes = h.manifest_offset + manifest.size();
  return with_packed_header(file.substr(0, h.manifest_offset).append(manifest), h);
}
inline std::string with_manifest(const std::string& file, const proto::Manifest& m) {
  return with_manifest_bytes(file, m.SerializeAsString());
}

}  // namespace pith::test
