// One command that compresses a model, at work: what its parts share (compress_prepare.h,
// compress_work.h, compress_report.h).
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "core/json.h"
#include "core/phases.h"
#include "runtime/compress/plan.h"
#include "runtime/compress/self_text.h"
#include "tools/compress_command.h"
#include "tools/time_estimate.h"

namespace pith::tools {

struct Peaks {  // of memory, beside that of the compression itself
  uint64_t text = 0, measuring = 0;
};

// One command's work, from its start on.
struct Job {
  const CompressCommand& o;
  const ModelSource& source;
  Progress& progress;
  std::chrono::steady_clock::time_point begin;
  Phases phases = {};  // text and measurements, before the compression
  // The steps, for people ("int4-g64 with gptq") and as members of the JSON.
  std::string title = {};
  Json about = {};
  std::string hint = {};  // behind the estimate of time
  Peaks peaks = {};
  double written_share = 0;               // of the calibration text, by the model
  std::optional<RoundingWork> work = {};  // what the estimate of time is made of; none: no estimate

  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
};

// The options of the compression, and the text that the model is to write for it.
struct Prepared {
  CompressOptions options = {};
  TextRequest text = {};  // count 0: none
};

}  // namespace pith::tools
