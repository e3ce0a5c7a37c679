// The one loop of compression:
//
//   for each unit (tokenizer, embedding, every block, head):
//     journal has it?  skip it (and propagate through it)
//     else  load -> run and observe -> passes -> check -> write -> journal.commit
//     run again with the compressed weights
//   manifest, header, checksums read back, rename
//
// Same source, passes, calibration and seed: same bytes, for any number of threads and any
// interruption. Memory: the source's numbers of two blocks, one compressed block, calibration
// states, and 64 MiB; embedding and head stream.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/progress.h"
#include "runtime/compress/pass.h"
#include "runtime/compress/work_folder.h"

namespace pith {

struct LinearPlan {
  LinearInfo info;
  Encoding from, to;
  uint64_t bytes = 0;
};

struct CompressPlan {
  std::vector<LinearPlan> linears;
  uint64_t source_bytes = 0;   // of tensors
  uint64_t output_bytes = 0;   // planes and tokenizer; the manifest comes on top
  uint64_t memory_bytes = 0;   // peak, anonymous
  uint64_t scratch_bytes = 0;  // calibration states in a file
  uint64_t gpu_bytes = 0;      // about, where the executor has a GPU
  uint64_t disk_bytes = 0;     // needed beside the output, and for scratch
  double bits_per_weight = 0;  // of linears
  int64_t calibration_tokens = 0;
};

struct CompressOptions {
  std::string output;
  uint64_t memory = UINT64_MAX;  // calibration states that would take more go to a scratch file
  int max_fallbacks = 0;         // linears that may get less than what was asked for
  bool sequential = true;        // each stage sees what the compressed stages before it make
  bool propagate = true;         // each block sees what the compressed blocks before it make
  std::vector<std::vector<int32_t>> calibration;  // windows of tokens; empty: none
  uint64_t calibration_hash = 0;                  // of their text
  uint64_t seed = 0;
  // What runs the model on the text, and where methods work that know its GPU, if it has one; null:
  // the processor.
  Executor* executor = nullptr;
  // The folder of finished parts; null: a folder of its own, which is removed at the end.
  WorkFolder* work = nullptr;
  // Drops the parts of an earlier try with other encodings without a message.
  bool one_of_tries = false;
};

struct CompressReport {
  uint64_t file_bytes = 0;
  double worst_error = 0;  // relative, over linears
  std::string worst_linear;
  int resumed_units = 0;
  std::vector<std::string> fallbacks;  // "layers.3.mlp.down: why"
  std::map<std::string, int> methods;  // what was done ("gptq", "rtn weighted by inputs"), to how
                                       // many linears
  std::vector<std::string> notes;      // worth telling: rows that are lost
  double check_kl = 0;                 // of the finished file against the source, on a few tokens
  int64_t check_tokens = 0;
  std::vector<std::pair<std::string, double>> seconds;  // by phase
};

using Passes = std::vector<std::unique_ptr<Pass>>;

CompressPlan plan_compression(const ModelSource& source, const Passes& passes,
                              const CompressOptions& options);
// Checks what can be checked before the work: Error(kUsage) for an output that is the input or not
// a regular file, or a pass that needs a text and has none; Error(kMemory) and Error(kNoSpace)
// where the plan exceeds the machine.
void check_compression(const ModelSource& source, const Passes& passes,
                       const CompressOptions& options, const CompressPlan& plan);
CompressReport compress(const ModelSource& source, const Passes& passes,
                        const CompressOptions& options, Progress& progress = no_progress());

// Memory that the weights of a whole model take; 0 for packed files, which are mapped.
uint64_t model_bytes(const ModelSource& source);

// Rows of a linear as f32, by the fastest decoder there is: bit for bit what dense_rows gives.
void fast_rows(const Linear& linear, int64_t row, int64_t rows, float* out);

// Rows of a matrix that share a scale, so that they are worked on together. (That of a whole tensor
// is known beforehand.)
int64_t row_step(const Encoding& e, int64_t n, int64_t k);
// Rows of a matrix that are worked on as one piece.
int64_t slab_rows(const Encoding& e, int64_t n, int64_t k);

}  // namespace pith
