// One command `pith quantize` at work: what its parts share (quantize.cc, quantize_prepare.cc,
// quantize_report.cc).
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "core/phases.h"
#include "runtime/compress/self_text.h"
#include "tools/mixed.h"
#include "tools/quantize_options.h"

namespace pith::tools {

struct Peaks {  // of memory, beside that of the compression itself
  uint64_t text = 0, measuring = 0;
};

// One command's work, from its start on.
struct Job {
  const QuantizeCommand& o;
  const ModelSource& source;
  Progress& progress;
  std::chrono::steady_clock::time_point begin;
  Phases phases;     // text and measurements, before the compression
  std::string goal;  // of mixed precision; empty: every layer gets the type
  Peaks peaks = {};
  double written_share = 0;  // of the calibration text, by the model

  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
};

// Everything of a compression that is known before the work.
struct Prepared {
  QuantizeSettings settings;
  CompressOptions options;
  std::optional<Mixed> mixed;
  TextRequest text = {};  // that the model writes; count 0: none
};

inline Passes passes_for(const QuantizeSettings& settings) {
  Passes passes;
  passes.push_back(make_quantize_pass(settings));
  return passes;
}

}  // namespace pith::tools
