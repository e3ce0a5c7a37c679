// Where a model comes from: a checkpoint of others, seen through its architecture, or a packed
// file. One interface for running, compressing and exporting. Thread-safe.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/checkpoint.h"
#include "formats/packed_file.h"
#include "formats/tokenizer/tokenizer.h"
#include "runtime/model/form.h"

namespace pith {

class ModelSource {
 public:
  virtual ~ModelSource() = default;

  virtual const proto::ModelSpec& spec() const = 0;
  virtual std::string path() const = 0;
  virtual std::string kind() const = 0;  // "safetensors", "gguf", "llama2c", "pith"
  virtual TokenizerFiles tokenizer() const = 0;
  virtual ConfigFiles config_files() const { return {}; }
  virtual uint64_t hash() const = 0;          // what "the same source" means for a journal
  virtual uint64_t tensor_bytes() const = 0;  // as stored
  virtual const proto::Manifest* manifest() const { return nullptr; }
  // What was done to the numbers on the way here, as lines of a recipe before those of the passes.
  virtual std::string recipe() const { return {}; }
  // Deviations that were tolerated or ignored while opening, one line each, for the user.
  virtual std::vector<std::string> notes() const { return {}; }
  virtual bool reads(const std::string& file) const = 0;  // whether its tensors lie in this file

  virtual Linear linear(const LinearInfo& info) const = 0;
  // The form of linear(), without reading its numbers.
  virtual LinearForm form(const LinearInfo& info) const = 0;
  // Rows of the sum of its terms as f32 [rows, k]: reads only those, where the source can.
  virtual void rows(const LinearInfo& info, int64_t row, int64_t rows, float* out) const {
    reference_decode(linear(info), row, rows, out);
  }
  virtual std::vector<float> bias(const LinearInfo& info) const = 0;
  virtual std::vector<float> vector(const VectorInfo& info) const = 0;
};

// A model that differs from another one in something: weights that were rotated, layers that were
// dropped, widths that were cut. Everything is passed on but what a subclass overrides. One that
// changes shapes overrides spec(); whoever asks then names linears and vectors as that spec does,
// so linear(), form(), rows(), bias() and vector() translate. linear(), form() and rows() belong
// together.
//
// The manifest is not passed on: it describes the file and not this model. `inner` outlives this.
class ForwardingSource : public ModelSource {
 public:
  explicit ForwardingSource(const ModelSource& inner) : inner_(inner) {}

  const proto::ModelSpec& spec() const override { return inner_.spec(); }
  std::string path() const override { return inner_.path(); }
  std::string kind() const override { return inner_.kind(); }
  TokenizerFiles tokenizer() const override { return inner_.tokenizer(); }
  ConfigFiles config_files() const override { return inner_.config_files(); }
  uint64_t hash() const override { return inner_.hash(); }
  uint64_t tensor_bytes() const override { return inner_.tensor_bytes(); }
  std::string recipe() const override { return inner_.recipe(); }
  std::vector<std::string> notes() const override { return inner_.notes(); }
  bool reads(const std::string& file) const override { return inner_.reads(file); }
  Linear linear(const LinearInfo& info) const override { return inner_.linear(info); }
  LinearForm form(const LinearInfo& info) const override { return inner_.form(info); }
  void rows(const LinearInfo& info, int64_t row, int64_t rows, float* out) const override {
    inner_.rows(info, row, rows, out);
  }
  std::vector<float> bias(const LinearInfo& info) const override { return inner_.bias(info); }
  std::vector<float> vector(const VectorInfo& info) const override { return inner_.vector(info); }

 protected:
  // One weight in f32 from rows() and bias(): for a subclass that changes numbers in rows().
  Linear linear_from_rows(const LinearInfo& info) const;

  const ModelSource& inner_;
};

// path: see open_checkpoint, or a packed file. `tokenizer_path`: a file in place of the model's own
// tokenizer (read_tokenizer_file); "": none. `verify` checks the checksums of a packed file's
// planes.
std::unique_ptr<ModelSource> open_model(const std::string& path,
                                        const std::string& tokenizer_path = "", bool verify = true);

// The source's tokenizer, checked against the model. Error(kUsage) where there is none;
// Error(kCorrupt) where an id of it is not below the model's vocabulary. A vocabulary much smaller
// than the model's is named in `notes`.
std::unique_ptr<Tokenizer> load_tokenizer(const ModelSource& source,
                                          std::vector<std::string>* notes = nullptr);

// The tokens that end a generation: those of the model's configuration and those of the tokenizer's
// files (EOS, ends of turns), each once, without ids that have no row in the embedding.
std::vector<int32_t> stop_tokens(const proto::ModelSpec& spec, const Tokenizer& tokenizer);

// Error(kCorrupt) naming the file, the linear and the row where the mask of a sparse weight does
// not fit it. Loading a model does this.
void check_masks(const std::string& path, const Linear& linear);

Block load_block(const ModelSource& source, int layer);
NormWeights load_final_norm(const ModelSource& source);
Model load_model(const ModelSource& source);
// Memory that the weights of a whole model take; 0 for packed files, which are mapped.
uint64_t model_bytes(const ModelSource& source);

// The same model with every linear re-encoded as `dtype`: the noise floor of an evaluation.
Model load_dense_model(const ModelSource& source, DType dtype);

}  // namespace pith
