// safetensors: u64 header length N, N bytes of JSON, then tensor data.
//
// Rules (those of the reference implementation): N <= 100,000,000 and 8 + N <= file size, checked
// before anything is allocated; UTF-8 JSON whose first byte is '{', padded with spaces at most; one
// object, no duplicate keys at any level;
// __metadata__ maps strings to strings; every tensor has exactly dtype, shape and data_offsets;
// sizes are plain non-negative integers (no 1e3, 1.0, -0); product of shape times element size, by
// checked multiplication, equals end - begin; sorted by begin the tensors touch each other, the
// first begins at 0 and the last ends at the end of the file. Zero-size tensors and rank 0 are
// legal. Memory while parsing stays below 4 times the header + 64 MiB: the JSON is read as a stream
// of events, never as a tree, and a shape of more than 64 sizes, a string of more than 16 MiB or
// more than 65,536 entries of
// __metadata__ are refused. Tensors of unsupported element types are skipped, after the same checks
// of their place. F64 is read as f32.
//
// An index (model.safetensors.index.json) names shards by plain file name. As in transformers, all
// tensors of those shards count, even where the index places them elsewhere, and the last shard
// wins for a tensor in two of them; differences from the index are noted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "formats/checkpoint.h"

namespace pith {

struct SafetensorsHeader {
  std::map<std::string, std::string> metadata;
  std::vector<TensorInfo> tensors;                 // by offset; offsets absolute, file index 0
  std::map<std::string, std::string> other_types;  // of tensors that are not among them: F4, BOOL
};

// Pure: `bytes` holds at least the 8 + N first bytes of a file of `file_size` bytes.
SafetensorsHeader parse_safetensors(std::span<const std::byte> bytes, uint64_t file_size,
                                    const std::string& name);

// Shard of each tensor, from the text of an index file. Pure.
std::map<std::string, std::string> parse_safetensors_index(std::string_view text,
                                                           const std::string& name);

bool looks_like_safetensors(std::span<const std::byte> first_bytes, uint64_t file_size);

// A folder with model.safetensors, or with model.safetensors.index.json and its shards, or with
// just one *.safetensors or all of model-00001-of-0000N.safetensors; or one file. config.json lies
// beside it. Reads no tokenizer.
Checkpoint open_safetensors(const std::string& path);

// Writes one file by the same rules: tensors in order of descending alignment, then name; the
// header padded to 8 bytes.
struct TensorData {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
};
void write_safetensors(const std::string& path, std::vector<TensorData> tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace pith
