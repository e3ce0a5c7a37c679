// GGUF versions 2 and 3, little-endian, one file or a split set.
//
// Layout: "GGUF", u32 version, u64 tensor count, u64 pair count; pairs (string key, u32 type,
// value); tensor infos (string name, u32 dimensions 1..4, u64 sizes innermost first, u32 type, u64
// offset); padding to general.alignment (a power of two, 8 to 65536, default 32); tensor data, each
// at its offset from there.
//
// Rules: at most 65,536 pairs and 1,048,576 tensors; every count is bounded by the bytes that
// remain before memory is reserved; strings hold at most what remains; keys and tensor names are
// unique (found by sorting, never quadratic) and not empty; arrays hold scalars or strings, never
// arrays; products and sums are checked before use; a tensor lies inside the file, aligned, and
// overlaps no other; bools are 0 or 1.
//
// Split sets ("NAME-00001-of-000NN.gguf"): split.no, split.count and split.tensors.count are
// checked against the files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "formats/checkpoint.h"
#include "formats/gguf_metadata.h"

namespace pith {

struct GgufHeader {
  uint32_t version = 0;
  GgufMetadata metadata;
  std::vector<TensorInfo> tensors;  // offsets absolute, file index 0
  std::map<std::string, std::string>
      other_types;  // of tensors that are not among them: 16 (iq2_xxs)
  uint64_t data_begin = 0;
};

// Parses the header in `bytes`, the first part of a file of `file_size` bytes, or all of it.
// Error(kCorrupt) or Error(kUnsupported) with name and offset. Pure: the fuzz target calls it.
GgufHeader parse_gguf(std::span<const std::byte> bytes, uint64_t file_size,
                      const std::string& name);

bool looks_like_gguf(std::span<const std::byte> first_bytes);
Checkpoint open_gguf(const std::string& path);

// A GGUF header without tensors that holds the given pairs: how a packed file carries a GGUF
// tokenizer.
std::string write_gguf_metadata(const GgufMetadata& metadata, std::string_view key_prefix);

}  // namespace pith
