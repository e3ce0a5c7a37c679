// Model families: how the words of a config.json or of GGUF metadata become a ModelSpec, and under
// which tensor names the weights lie. One file a family, one row in the table (arch.cc); nothing
// else in pith asks which family a model is.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>

#include "formats/checkpoint.h"
#include "runtime/model/spec.h"

namespace pith {

// Rows of a checkpoint's tensor, seen as [shape[0], rest], that make up a weight, a bias or a
// vector of the spec.
struct TensorSlice {
  std::string tensor;
  int64_t row = 0;  // fused tensors: where this part begins
};

struct ImportedModel {
  proto::ModelSpec spec;
  std::map<std::string, TensorSlice>
      tensors;  // by name of the linear or vector; biases as NAME.bias
};

struct Architecture {
  const char* name;  // model_type of config.json, or general.architecture of GGUF
  Checkpoint::Kind container;
  ImportedModel (*import)(const Checkpoint& checkpoint);
};

std::span<const Architecture> architectures();

// Finds the row, imports, checks the spec and that every tensor is there in the right shape.
// Error(kUnsupported) naming the families that exist.
ImportedModel import_model(const Checkpoint& checkpoint);

// By family, see the files.
ImportedModel import_llama_hf(
    const Checkpoint& checkpoint);  // llama, mistral, qwen2, qwen3, llama2c
ImportedModel import_llama_gguf(const Checkpoint& checkpoint);  // llama, qwen2, qwen3
ImportedModel import_phi3_hf(const Checkpoint& checkpoint);
ImportedModel import_phi3_gguf(const Checkpoint& checkpoint);

}  // namespace pith
