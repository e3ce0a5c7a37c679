#include "runtime/model/arch/arch.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "formats/printable.h"
#include "runtime/model/arch/fp8_scales.h"

namespace pith {
namespace {

constexpr auto kHf = Checkpoint::Kind::kSafetensors;
constexpr auto kGguf = Checkpoint::Kind::kGguf;

// A new family is a row here and a file beside this one.
const Architecture kTable[] = {
    {"llama", kHf, import_llama_hf},
    {"mistral", kHf, import_llama_hf},
    {"ministral", kHf, import_llama_hf},
    {"qwen2", kHf, import_llama_hf},
    {"qwen3", kHf, import_llama_hf},
    {"mixtral", kHf, import_llama_hf},
    {"qwen3_moe", kHf, import_llama_hf},
    {"phi3", kHf, import_phi3_hf},
    {"gemma", kHf, import_gemma_hf},
    {"gemma2", kHf, import_gemma_hf},
    {"gemma3_text", kHf, import_gemma_hf},
    {"gemma3", kHf, import_gemma_hf},
    {"llama", kGguf, import_llama_gguf},
    {"qwen2", kGguf, import_llama_gguf},
    {"qwen3", kGguf, import_llama_gguf},
    {"qwen3moe", kGguf, import_llama_gguf},
    {"phi3", kGguf, import_phi3_gguf},
    {"gemma", kGguf, import_gemma_gguf},
    {"gemma2", kGguf, import_gemma_gguf},
    {"gemma3", kGguf, import_gemma_gguf},
    {"gpt_oss", kHf, import_gpt_oss_hf},
    {"gpt-oss", kGguf, import_gpt_oss_gguf},
    {"qwen2_moe", kHf, import_llama_hf},
    {"qwen2moe", kGguf, import_llama_gguf},
    {"deepseek_v2", kHf, import_deepseek_hf},
    {"deepseek_v3", kHf, import_deepseek_hf},
    {"kimi_k2", kHf, import_deepseek_hf},
    {"deepseek2", kGguf, import_deepseek_gguf},
    {"glm4_moe", kHf, import_glm4_moe_hf},
    {"glm4moe", kGguf, import_glm4_moe_gguf},
    {"llama2c", Checkpoint::Kind::kLlama2c, import_llama_hf},
};

// That the tensor has those rows of `columns` numbers.
const TensorInfo& check_rows(const Checkpoint& checkpoint, const std::string& tensor,
                             const TensorSlice& slice, const std::string& name, int64_t rows,
                             int64_t columns) {
  const TensorInfo& whole = checkpoint.require(tensor);
  const TensorInfo t = as_matrix(whole, columns);
  const int64_t have_rows = t.shape.empty() ? 1 : t.shape[0];
  int64_t have_columns = 1;
  for (size_t i = 1; i < t.shape.size(); ++i)
    have_columns *= t.shape[i];  // bounded by the file: checked on opening
  const bool fits = slice.row >= 0 && slice.row < have_rows &&
                    rows - 1 <= (have_rows - 1 - slice.row) / slice.step;
  if (have_columns != columns || !fits) {
    fail(ErrorKind::kCorrupt, "{}: {} is {} x {}, {} needs {} x {} from row {}", checkpoint.path,
         printable(t.name), have_rows, have_columns, name, rows, columns, slice.row);
  }
  return whole;
}

// That `name` is there with `rows` of `columns` numbers at its slice.
void check_tensor(const Checkpoint& checkpoint, const ImportedModel& model, const std::string& name,
                  int64_t rows, int64_t columns) {
  const auto it = model.tensors.find(name);
  if (it == model.tensors.end())
    fail(ErrorKind::kCorrupt, "{}: nothing is known to hold {}", checkpoint.path, name);
  const TensorSlice& slice = it->second;
  if (!slice.scales.empty()) {
    if (columns % kMxGroup != 0) {
      fail(ErrorKind::kCorrupt, "{}: rows of {} numbers in groups of {}: {}", checkpoint.path,
           columns, kMxGroup, name);
    }
    for (const auto& [tensor, held] :
         {std::pair(slice.tensor, kMxCodes), std::pair(slice.scales, kMxGroup)}) {
      const TensorInfo& t = check_rows(checkpoint, tensor, slice, name, rows, columns / held);
      if (t.encoding != Encoding::dense(DType::kU8))
        fail(ErrorKind::kCorrupt, "{}: {} should hold bytes", checkpoint.path, tensor);
    }
    return;
  }
  if (slice.transposed) std::swap(rows, columns);
  columns *= slice.column_step;
  const TensorInfo& t = check_rows(checkpoint, slice.tensor, slice, name, rows, columns);
  if (t.encoding.kind == EncodingKind::kDense && !info(t.encoding.dtype).floating) {
    fail(ErrorKind::kUnsupported,
         "{}: {} has integers ({}): already quantized checkpoints of this kind cannot be read",
         checkpoint.path, printable(t.name), info(t.encoding.dtype).name);
  }
}

// Whether both hold the same numbers, as far as that is known without decoding.
bool are_equal(const Checkpoint& checkpoint, const TensorInfo& a, const TensorInfo& b) {
  if (a.encoding != b.encoding || a.shape != b.shape || a.f64 != b.f64) return false;
  const int64_t rows = a.shape.empty() ? 1 : a.shape[0];
  if (rows == 0) return true;
  const uint64_t row_bytes = a.bytes / static_cast<uint64_t>(rows);
  const auto at_once = std::max<int64_t>(
      1, static_cast<int64_t>((uint64_t{4} << 20) / std::max<uint64_t>(row_bytes, 1)));
  std::vector<std::byte> x, y;
  for (int64_t row = 0; row < rows; row += at_once) {
    const int64_t n = std::min(at_once, rows - row);
    x.resize(row_bytes * static_cast<uint64_t>(n));
    y.resize(x.size());
    checkpoint.read(a, row, n, x);
    checkpoint.read(b, row, n, y);
    if (x != y) return false;
  }
  return true;
}

// A checkpoint may say that the head is the embedding and hold another one. As in transformers both
// are used then. One that holds the embedding twice is as good as tied.
void compare_head(const Checkpoint& checkpoint, ImportedModel* model) {
  auto& spec = model->spec;
  const auto embedding = model->tensors.find("embedding"), head = model->tensors.find("head");
  if (embedding == model->tensors.end() || head == model->tensors.end()) return;
  const auto stored = [&](const TensorSlice& s) -> const TensorInfo* {
    const auto it = checkpoint.by_name.find(s.tensor);
    return it == checkpoint.by_name.end() ? nullptr : &checkpoint.tensors[it->second];
  };
  const TensorInfo *const a = stored(embedding->second), *const b = stored(head->second);
  if (a == nullptr || b == nullptr || a == b) return;
  const bool equal = are_equal(checkpoint, *a, *b);
  if (spec.tied_head() && !equal) {
    spec.set_tied_head(false);
    model->notes.push_back(
        fmt::format("{}: the head should be the embedding (tie_word_embeddings), but {} and {} "
                    "differ: both are used",
                    checkpoint.path, printable(a->name), printable(b->name)));
  } else if (checkpoint.kind == kGguf && equal) {
    spec.set_tied_head(true);
  }
}

// Checks that the model uses all of each tensor that it reads: with wrong sizes in the
// configuration it would use only the first rows.
void check_whole_tensors(const Checkpoint& checkpoint, const ImportedModel& model) {
  std::map<std::string, int64_t> used;  // numbers; products are bounded by the files, as above
  const auto add = [&](const std::string& name, int64_t numbers) {
    const TensorSlice& slice = model.tensors.at(name);
    used[slice.tensor] += slice.scales.empty() ? numbers : numbers / kMxCodes;
  };
  for (const auto& l : linears_of(model.spec)) {
    add(l.name, l.n * l.k);
    if (l.bias) add(l.name + ".bias", l.n);
  }
  for (const auto& v : vectors_of(model.spec)) add(v.name, v.length);
  for (const auto& [tensor, numbers] : used) {
    const TensorInfo& t = checkpoint.require(tensor);
    int64_t all = 1;
    for (const int64_t d : t.shape) all *= d;
    if (all != numbers)
      fail(ErrorKind::kCorrupt, "{}: {} holds {} numbers, the configuration needs {}",
           checkpoint.path, printable(tensor), all, numbers);
  }
}

}  // namespace

TensorInfo as_matrix(const TensorInfo& t, int64_t columns) {
  TensorInfo matrix = t;
  int64_t across = 1;  // products are bounded by the file: checked on opening
  for (size_t i = t.shape.size(); i > 0 && across < columns; --i) {
    across *= t.shape[i - 1];
    matrix.shape.pop_back();
  }
  if (across != columns) return t;
  int64_t rows = 1;
  for (const int64_t d : matrix.shape) rows *= d;
  matrix.shape = {rows, columns};
  return matrix;
}

std::span<const Architecture> architectures() { return kTable; }

ImportedModel import_model(const Checkpoint& checkpoint) {
  std::string family;
  if (checkpoint.kind == kGguf) {
    family = checkpoint.gguf.text("general.architecture");
  } else {
    if (!checkpoint.config.is_object()) {
      fail(ErrorKind::kUsage, "{}: no config.json beside the weights", checkpoint.path);
    }
    family = json_string(checkpoint.config, "model_type", "config.json");
    is_fp8_checkpoint(checkpoint);  // an error where it is quantized in another way
  }
  std::string known;
  for (const auto& a : kTable) {
    if (a.container != checkpoint.kind) continue;
    if (family == a.name) {
      ImportedModel model = a.import(checkpoint);
      check_spec(model.spec, checkpoint.path);
      compare_head(checkpoint, &model);
      find_fp8_scales(checkpoint, &model);
      for (const auto& l : linears_of(model.spec)) {
        check_tensor(checkpoint, model, l.name, l.n, l.k);
        if (l.bias) check_tensor(checkpoint, model, l.name + ".bias", l.n, 1);
      }
      for (const auto& v : vectors_of(model.spec))
        check_tensor(checkpoint, model, v.name, v.length, 1);
      check_whole_tensors(checkpoint, model);
      return model;
    }
    known += std::string(known.empty() ? "" : " ") + a.name;
  }
  fail(ErrorKind::kUnsupported, "{}: architecture {} is not supported; these are: {}",
       checkpoint.path, printable(family), known);
}

}  // namespace pith
