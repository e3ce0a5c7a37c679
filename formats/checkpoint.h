// A model as others store it: tensors in files, what the configuration says, and the tokenizer's
// files. Opening checks everything about the containers (see safetensors.h, gguf.h, llama2c.h) and
// reads no tensor data. What a tensor means for a model is decided elsewhere (runtime/model/arch).
//
// Thread-safe once open: tensors are read by offset.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "formats/encodings/encoding.h"
#include "formats/gguf_metadata.h"

namespace pith {

struct TensorInfo {
  std::string name;
  Encoding encoding;           // dense or ggml
  std::vector<int64_t> shape;  // row-major, outermost first; [] is a scalar; zero sizes are legal
  uint32_t file = 0;           // index into the checkpoint's files
  uint64_t offset = 0;         // absolute, in that file; offset + bytes <= its size was checked
  uint64_t bytes = 0;          // exactly what shape and encoding need
  bool f64 = false;            // stored as doubles, twice those bytes; read as f32
};

// Everything that a tokenizer is made from (formats/tokenizer/tokenizer.h); what is absent is
// empty.
struct TokenizerFiles {
  std::string tokenizer_json;    // Hugging Face tokenizer.json
  std::string tokenizer_config;  // tokenizer_config.json, joined with its older companions
  std::string sentencepiece;     // SentencePiece .model bytes
  std::string gguf;              // a GGUF header without tensors that holds the tokenizer.* keys
  std::string tiktoken;          // tiktoken.model: byte strings in base64 with their ranks
  std::string llama2c;           // tokenizer.bin of llama2.c
  std::string chat_template;     // Jinja source
  std::string from;              // the file or folder that they come from, for messages
  bool empty() const {
    return tokenizer_json.empty() && sentencepiece.empty() && tiktoken.empty() && gguf.empty() &&
           llama2c.empty();
  }
};

// What a Hugging Face folder says of its model, byte for byte; empty elsewhere, and where a
// generation_config.json cannot be read.
struct ConfigFiles {
  std::string config;             // config.json
  std::string generation_config;  // generation_config.json
};

struct Checkpoint {
  enum class Kind { kSafetensors, kGguf, kLlama2c };

  Kind kind = Kind::kSafetensors;
  std::string path;  // as given
  std::vector<File> files;
  std::vector<TensorInfo> tensors;  // in order of file and offset
  std::unordered_map<std::string, size_t> by_name;
  // Tensors that cannot be read: they have an unsupported element type or lie in a missing shard.
  // An error only where the model needs one of them.
  struct Unreadable {
    ErrorKind kind;
    std::string why;  // "has dtype F4, which is not supported"
  };
  std::map<std::string, Unreadable, std::less<>> unreadable;
  Json config;             // config.json; for llama2.c its header in the same words; null for GGUF
  Json generation_config;  // generation_config.json, or null
  ConfigFiles config_files;        // the text of both
  GgufMetadata gguf;               // metadata of a GGUF file
  TokenizerFiles tokenizer;        // from inside the container: GGUF, and the file of llama2.c
  std::vector<std::string> notes;  // tolerated and ignored parts, a line each, for the user

  // nullptr where there is none; Error where there is one that cannot be read.
  const TensorInfo* find(std::string_view name) const;
  const TensorInfo& require(std::string_view name) const;  // Error(kCorrupt) naming it
  // Rows [row, row + rows) of a tensor seen as [shape[0], the rest]; `to` has exactly their bytes.
  void read(const TensorInfo& t, int64_t row, int64_t rows, std::span<std::byte> to) const;
  uint64_t hash()
      const;  // names, shapes, offsets, sizes, modification times: what "the same source" means
};

// path: a folder with config.json and *.safetensors, one .safetensors file with config.json beside
// it, a GGUF file (also the first of a split set), or a llama2.c .bin. Recognised by content.
// Pickle files are refused with a remedy. The files of a tokenizer that lie beside the weights are
// not read (tokenizer_files_of() in formats/tokenizer/tokenizer.h does that).
Checkpoint open_checkpoint(const std::string& path);

}  // namespace pith
