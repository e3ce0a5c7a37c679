// The preparation of a command that compresses a model: checks of names, files and memory,
// the text, the work folder.
#pragma once

#include <memory>
#include <string>

#include "formats/tokenizer/tokenizer.h"
#include "runtime/compress/work_folder.h"
#include "tools/calibration_text.h"
#include "tools/compress_job.h"

namespace pith::tools {

// Refuses names that are a mistake, and files that cannot be written, before anything is read.
void check_outputs(const CompressCommand& o);
void require_other_output(const CompressCommand& o, const ModelSource& source);
// The seed; of --seed -1, where an interrupted run goes on, the one that it had.
uint64_t seed_of(const CompressCommand& o);
// The sources of the calibration text; none where none is read. `why`: what it is needed for, for
// an error; empty: for nothing.
CalibrationInputs calibration_of(const CompressCommand& o, const std::string& why);
std::string text_needed_by(const Passes& passes);
// The tokenizer goes into the file, so it is checked even where no text is read. Null: there is
// none.
std::unique_ptr<Tokenizer> tokenizer_for(const ModelSource& source, bool reads_text);
CompressOptions options_of(const CompressCommand& o, Executor* executor);
// Memory that writing a text takes: the whole model, and the KV cache of its windows.
uint64_t text_memory(const ModelSource& source, int64_t windows, int64_t length);
// Cuts the calibration text into windows, of which those that the model writes have their size.
void prepare_text(Job& job, const CalibrationInputs& calibration, const Tokenizer* tokenizer,
                  Prepared* to);
// Refuses what exceeds the machine, and warns of what exceeds what is free. `peak`: of all.
void check_memory(const Peaks& peaks, uint64_t peak);
// Opens the work folder, where an interrupted run may have left its parts. `open`: keys of the
// fingerprint that are not known yet. `uses_costs`: this run measures what choices cost.
void open_work(const Job& job, const Passes& passes, Prepared& p, WorkFolder& work,
               const std::vector<const char*>& open, bool uses_costs);

}  // namespace pith::tools
