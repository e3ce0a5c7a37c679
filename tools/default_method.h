// The method of `pith quantize` where none is named. The best that is a bounded amount of work, of
//   gptq on the standard text (CompressCommand::standard_text),
//   rtn weighted by inputs, on less of such text,
//   rtn without text.
// docs/results.md has the figures behind it. The choice depends on the type and the shapes of the
// model, and on whether the machine can hold it, never on speed or load: the same command makes the
// same bytes for any number of threads, and an interrupted one goes on with the method it had.
#pragma once

#include <string>

#include "runtime/model/spec.h"
#include "tools/quantize_options.h"
#include "tools/time_estimate.h"

namespace pith::tools {

// Where the method is chosen and no windows are given.
inline constexpr TextSize kGptqText = {16, 512}, kRtnText = {8, 256};

// Fills in what the command leaves open: method, text and its windows. Does nothing where a method
// is named. `fits`: the machine can hold the whole model, which writing text takes.
void choose_method(QuantizeCommand& o, const proto::ModelSpec& spec, bool fits);

// After a run whose method was chosen: what comes closer to the model, and how long it takes. Empty
// where nothing is known to.
std::string how_to_get_closer(const QuantizeCommand& o, const proto::ModelSpec& spec);

}  // namespace pith::tools
