// The packed file (.pith): planes of weights that are mapped as they are, and a protobuf manifest
// that says what they mean. docs/format.md specifies it to the byte.
//
//   0    header, 64 bytes: magic, version, sizes, offset of the manifest, its checksum, checksum of
//        the header
//   64   zeros
//   256  planes, each at the next multiple of 256 after the last; zeros between them
//   M    the manifest, at the first multiple of 256 that leaves kSlack bytes after the last plane;
//        it ends the file
//
// The manifest comes last because what it records (checksums, errors, ranks) is known last; the
// header is written at the very end. Every byte is covered: header, manifest and planes by XXH3-64,
// the gaps by being zero.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/file.h"
#include "core/function_ref.h"
#include "core/hash.h"
#include "formats/checkpoint.h"
#include "formats/encodings/encoding.h"
#include "formats/encodings/input.h"
#include "pith.pb.h"

namespace pith {

inline constexpr uint64_t kPlaneAlignment = 256;
inline constexpr uint32_t kPackedVersion = 3;  // that is written
inline constexpr uint32_t kOldestVersion = 2;  // that is read
inline constexpr uint64_t kMaxManifestBytes = 32 << 20;
inline constexpr uint64_t kMaxManifestRecords = 1 << 20;  // messages inside of messages

struct PackedLayout {
  uint64_t manifest_offset = 0;
  proto::Manifest manifest;
};

// Checks header and manifest of a whole file in memory or mapped: sizes, checksums, every record,
// every plane against the layout of its encoding, planes touching each other. Reads no plane.
// Memory is bounded by kMaxManifestBytes and kMaxManifestRecords. Pure: the fuzz target calls it.
PackedLayout parse_packed(std::span<const std::byte> file, const std::string& name);

// Checks the records of a part of a file as parse_packed checks those of a whole one: their planes
// follow each other without a gap from `begin` (0: the header) on and end before `limit`. Returns
// the end of the last one. Error(kCorrupt) otherwise.
uint64_t check_planes_follow(const proto::Manifest& records, uint64_t begin, uint64_t limit,
                             const std::string& name);
void for_each_plane(const proto::Manifest& records,
                    FunctionRef<void(const proto::PlaneRecord&)> body);

// Where the next plane begins, and where the manifest does, after planes that end there.
uint64_t plane_offset_after(uint64_t end);
uint64_t manifest_offset_after(uint64_t end);

bool looks_like_packed(std::span<const std::byte> first_bytes);

Encoding encoding_from(const proto::EncodingRecord& record);
proto::EncodingRecord record_of(const Encoding& e);
InputEncoding input_from(const proto::InputRecord& record);
proto::InputRecord record_of(const InputEncoding& e);

class PackedFile {
 public:
  static PackedFile open(const std::string& path);

  const std::string& path() const { return mapped_->path(); }
  uint64_t file_bytes() const { return mapped_->bytes().size(); }
  const proto::Manifest& manifest() const { return layout_.manifest; }

  std::span<const std::byte> plane(const proto::PlaneRecord& record) const;
  Weight weight(const proto::WeightRecord& record) const;
  std::string blob(const std::string& name) const;  // "" where there is none
  TokenizerFiles tokenizer() const;
  ConfigFiles config_files() const;

  // Checksums of all planes in parallel, and the gaps. Error(kCorrupt) naming the first that is
  // wrong, by offset.
  void check_planes() const;

 private:
  std::shared_ptr<const MappedFile> mapped_;
  PackedLayout layout_;
};

// One plane in the making: pieces in order.
class PlaneWriter {
 public:
  void append(std::span<const std::byte> bytes);
  proto::PlaneRecord finish();  // Error(kUsage) if not all bytes came

 private:
  friend class PackedWriter;
  PlaneWriter(File* file, PlaneKind kind, uint64_t offset, uint64_t bytes)
      : file_(file), kind_(kind), offset_(offset), bytes_(bytes) {}
  File* file_;
  PlaneKind kind_;
  uint64_t offset_, bytes_, written_ = 0;
  Hasher hasher_;
};

// Writes a packed file into an open, writable file from `end` on (0: a new file). Several planes
// may be in the making at once.
class PackedWriter {
 public:
  explicit PackedWriter(File& file, uint64_t end = 0);

  PlaneWriter begin_plane(PlaneKind kind, uint64_t bytes);
  proto::PlaneRecord add_plane(PlaneKind kind, std::span<const std::byte> bytes);
  proto::WeightRecord add_weight(const Weight& w);
  uint64_t end() const { return end_; }  // of the last plane begun

  // Writes the manifest, with the list of features that its records use, and the header, and syncs.
  // Returns the size of the file.
  uint64_t finish(proto::Manifest manifest);

 private:
  File& file_;
  uint64_t end_;
};

// Hash of everything that add_tokenizer stores, and the name and size of each blob.
using BlobSizes = std::vector<std::pair<std::string, uint64_t>>;
uint64_t hash_of(const TokenizerFiles& files);
BlobSizes blob_sizes(const TokenizerFiles& files);
// Blobs of a tokenizer, as records of planes added to the writer.
void add_tokenizer(PackedWriter& writer, const TokenizerFiles& files, proto::Manifest* manifest);

// The same for the configuration of the source.
uint64_t hash_of(const ConfigFiles& files);
BlobSizes blob_sizes(const ConfigFiles& files);
void add_config(PackedWriter& writer, const ConfigFiles& files, proto::Manifest* manifest);

}  // namespace pith
