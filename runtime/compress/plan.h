// The plan of a compression, computed from shapes and forms before the work: forms, sizes, memory
// and disk.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/compress/pass.h"
#include "runtime/compress/work_folder.h"

namespace pith {

struct LinearPlan {
  LinearInfo info;
  LinearForm from, to;
  uint64_t bytes = 0;
};

struct CompressPlan {
  std::vector<LinearPlan> linears;
  uint64_t source_bytes = 0;    // of tensors
  uint64_t output_bytes = 0;    // of the file, where methods report what they usually do
  uint64_t fallback_bytes = 0;  // added to it at most, should every layer report a fallback
  uint64_t memory_bytes = 0;    // peak, anonymous
  uint64_t scratch_bytes = 0;   // calibration states in a file
  uint64_t gpu_bytes = 0;       // about, where the executor has a GPU
  uint64_t disk_bytes = 0;      // needed beside the output, and for scratch
  double bits_per_weight = 0;   // of linears
  int64_t calibration_tokens = 0;
};

// A domain of the calibration text: a file, or what the model writes.
struct CalibrationSource {
  std::string name;      // for the record: "chat.jsonl", "self"
  double weight = 1;     // as it was asked for
  uint64_t hash = 0;     // of the text; 0: it is not written yet
  bool written = false;  // by the model itself
  bool file = false;     // of the user, known by its name alone
};

struct CompressOptions {
  std::string output;
  uint64_t memory = UINT64_MAX;  // calibration states that would take more go to a scratch file
  int max_fallbacks = 0;         // linears that may get less than what was asked for
  bool sequential = true;        // each stage sees what the compressed stages before it make
  bool propagate = true;         // each block sees what the compressed blocks before it make
  std::vector<std::vector<int32_t>> calibration;  // windows of tokens; empty: none
  std::vector<int> domain = {};  // of each window, into `sources`; empty: all windows are of one
  std::vector<CalibrationSource> sources = {};  // for the recipe
  uint64_t calibration_hash = 0;                // of the text of all
  uint64_t seed = 0;
  // Runs the model on the calibration text; methods with GPU kernels use its GPU, if it has one.
  // Null: the processor.
  Executor* executor = nullptr;
  // The folder of finished parts; null: a folder of its own, which is removed at the end.
  WorkFolder* work = nullptr;
  // Drops the parts of an earlier try with other encodings without a message.
  bool one_of_tries = false;
};

CompressPlan plan_compression(const ModelSource& source, const Passes& passes,
                              const CompressOptions& options);
// Checks what can be checked before the work: Error(kUsage) for an output that is the input or not
// a regular file, or a pass that needs a text and has none; Error(kMemory) and Error(kNoSpace)
// where the plan exceeds the machine.
void check_compression(const ModelSource& source, const Passes& passes,
                       const CompressOptions& options, const CompressPlan& plan);

// The form of a linear after all passes, each of which sees that of the ones before it.
LinearForm form_after(const Passes& passes, const LinearInfo& info, const LinearForm& from);
StatisticsNeeds needs_of(const Passes& passes);
// Calibration::Options::shared.
StatisticsNeeds shared_needs(const Passes& passes);

// Tokens that the finished file is compared with its source on.
inline constexpr size_t kCheckTokens = 48;

// One window of eight is held out: calibration measures on it and does not fit it.
inline constexpr int kHoldOut = 8;
bool holds_out(const StatisticsNeeds& needs, const CompressOptions& options);
// Every kHoldOut-th window, domain by domain, so that each has its share of them.
std::vector<bool> held_out_windows(const CompressOptions& options);

}  // namespace pith
