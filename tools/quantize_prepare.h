// What `pith quantize` does before the work: checks of names, files and memory, the text, the
// choice of types, the work folder.
#pragma once

#include <memory>
#include <string>

#include "formats/tokenizer/tokenizer.h"
#include "tools/calibration_text.h"
#include "tools/quantize_job.h"

namespace pith::tools {

// Refuses names that are a mistake, and files that cannot be written, before anything is read.
void check_outputs(const QuantizeCommand& o);
void require_other_output(const QuantizeCommand& o, const ModelSource& source);
// The seed; of --seed -1, where an interrupted run goes on, the one that it had.
uint64_t seed_of(const QuantizeCommand& o);
// The sources of the calibration text; none where none is read.
CalibrationInputs calibration_of(const QuantizeCommand& o, const QuantizeSettings& settings);
// The tokenizer goes into the file, so it is checked even where no text is read. Null: there is
// none.
std::unique_ptr<Tokenizer> tokenizer_for(const ModelSource& source, bool reads_text);
CompressOptions options_of(const QuantizeCommand& o, Executor* executor);
// Memory that writing a text takes: the whole model, and the KV cache of its windows.
uint64_t text_memory(const ModelSource& source, int64_t windows, int64_t length);
// Cuts the calibration text into windows, of which those that the model writes have their size.
void prepare_text(Job& job, const CalibrationInputs& calibration, const Tokenizer* tokenizer,
                  Prepared* to);
// The search for types, where there is one. A target that every choice satisfies needs no text.
void prepare_mixed(Job& job, Prepared* to);
// Refuses what exceeds the machine, and warns of what exceeds what is free. `peak`: of all.
void check_memory(const Peaks& peaks, uint64_t peak);
// Opens the work folder, where an interrupted run may have left its parts.
void open_work(const Job& job, const Passes& passes, Prepared& p, WorkFolder& work);

}  // namespace pith::tools
