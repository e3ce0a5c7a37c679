// Model families: how the words of a config.json or of GGUF metadata become a ModelSpec, and under
// which tensor names the weights lie. One file a family, one row in the table (arch.cc); nothing
// else in pith asks which family a model is.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/checkpoint.h"
#include "runtime/model/spec.h"

namespace pith {

// The scales of a tensor of FP8 codes: one for each `rows` x `columns` numbers of each of the
// stacked matrices, which have `matrix_rows` rows.
struct Fp8Scales {
  std::string tensor;
  DType codes = DType::kF8E4M3;
  int64_t rows = 1, columns = 1, matrix_rows = 1;
};

// Rows of a checkpoint's tensor, seen as a matrix of as many columns as the weight has (a bias or a
// vector: 1), that make up a weight, a bias or a vector of the spec.
struct TensorSlice {
  std::string tensor;
  int64_t row = 0;          // fused and stacked tensors: where this part begins
  float plus = 0;           // vectors: what is added to each number
  int64_t column = 0;       // transposed: where this part begins in a row
  int64_t column_step = 1;  // and from one number of this part to the next
  int64_t step = 1;         // interleaved tensors: from one row of this part to the next
  bool transposed = false;  // the rows from `row` on are the columns of the weight
  std::string scales = {};  // where `tensor` holds codes of MXFP4, two in a byte: 2^(e - 127) of 32
  std::optional<Fp8Scales> fp8 = {};  // see fp8_scales.h
};
// The bytes that hold a row of MXFP4 codes, and of their scales.
inline constexpr int64_t kMxCodes = 2, kMxGroup = 32;
// The tensor as that matrix: its last dimensions are the columns. Its own shape where they are not.
TensorInfo as_matrix(const TensorInfo& t, int64_t columns);

struct ImportedModel {
  proto::ModelSpec spec;
  std::map<std::string, TensorSlice> tensors =
      {};                               // by name of the linear or vector; biases as NAME.bias
  std::vector<std::string> notes = {};  // tolerated and ignored parts, for the user
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
    const Checkpoint& checkpoint);  // llama, mistral, ministral, mixtral, qwen2, qwen3, qwen2_moe,
                                    // qwen3_moe, llama2c
ImportedModel import_llama_gguf(
    const Checkpoint& checkpoint);  // llama (also Mixtral), qwen2, qwen3, qwen2moe, qwen3moe
ImportedModel import_phi3_hf(const Checkpoint& checkpoint);
ImportedModel import_phi3_gguf(const Checkpoint& checkpoint);
ImportedModel import_gemma_hf(const Checkpoint& checkpoint);    // gemma, gemma2, gemma3
ImportedModel import_gemma_gguf(const Checkpoint& checkpoint);  // the same
ImportedModel import_gpt_oss_hf(const Checkpoint& checkpoint);
ImportedModel import_gpt_oss_gguf(const Checkpoint& checkpoint);
ImportedModel import_deepseek_hf(const Checkpoint& checkpoint);    // deepseek_v2, deepseek_v3
ImportedModel import_deepseek_gguf(const Checkpoint& checkpoint);  // deepseek2: both
ImportedModel import_glm4_moe_hf(const Checkpoint& checkpoint);
ImportedModel import_glm4_moe_gguf(const Checkpoint& checkpoint);

}  // namespace pith
