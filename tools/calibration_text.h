// The text that compression calibrates on, cut into windows. It comes from one source or several,
// each of which is a domain:
//
//   FILE       a plain text or conversations (input_text.h)
//   builtin    the text that comes with the program: a domain for each of its files
//   self       text that the model writes (runtime/compress/self_text.h)
//
// and shares the windows with the others by weight: `--calib chat.jsonl=2 --calib self`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/tokenizer/tokenizer.h"
#include "runtime/compress/plan.h"
#include "runtime/compress/self_text.h"

namespace pith::tools {

struct CalibrationInput {
  enum class Kind { kFile, kBuiltin, kSelf };
  Kind kind = Kind::kFile;
  std::string name;  // a path where it is a file
  double weight = 1;
};
using CalibrationInputs = std::vector<CalibrationInput>;

// The sources for a method that needs a text where no --calib is given, as --calib names them: half
// is what the model writes, which is what it knows best, half the builtin text, for what it would
// not write by itself (docs/results.md). Without a tokenizer all of it is what the model writes.
std::vector<std::string> default_sources(const ModelSource& source);

// A file, self or builtin.
CalibrationInput calibration_input(const std::string& name, double weight = 1);
// The values of --calib: NAME or NAME=WEIGHT, of which the latter is a file where there is one of
// that whole name. None for "none". Error(kUsage) for a weight that is not above 0, a source that
// is given twice, and none among others.
CalibrationInputs calibration_inputs(const std::vector<std::string>& named);

// The share of the windows, by weight, that the model writes.
double written_share(const CalibrationInputs& inputs);
bool has_files(const CalibrationInputs& inputs);  // or the builtin text: what takes a tokenizer

// `count` windows of `length` tokens into options->calibration, each after a BOS if the model has
// one, with their domains, sources and hash. Windows of a text are spread evenly over it; those of
// different domains alternate. Windows that the model is going to write are zeros. Where a text has
// fewer windows than its share the others take over; warns, also where all have fewer than `count`.
// Error(kUsage) for a file that has none. `tokenizer` may be null where no text is read.
void cut_calibration_text(const CalibrationInputs& inputs, const ModelSource& source,
                          const Tokenizer* tokenizer, int64_t count, int64_t length,
                          CompressOptions* options);

// The text that the model is to write for `options`, whose windows were cut; count 0: none.
// `tokenizer` may be null: documents begin with a BOS alone then. Error(kCorrupt) where the
// tokenizer has tokens that the model does not know.
TextRequest request_of(const CompressOptions& options, const ModelSource& source,
                       const Tokenizer* tokenizer);
// Puts what was written in its place, and brings the hashes up to date.
void put_written_text(const Windows& text, CompressOptions* options);

}  // namespace pith::tools
