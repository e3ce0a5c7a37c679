// The method of `pith quantize` where none is named: gptq, calibrated on a little text that the model writes, as
// long as that is a bounded amount of work; else rtn. docs/results.md has the figures behind it.
//
// The choice depends on the type and the shapes of the model, never on the machine or its load: the same command
// makes the same bytes everywhere, and an interrupted one goes on with the method it had.
#pragma once

#include <string>

#include "runtime/model/spec.h"
#include "tools/quantize_options.h"

namespace pith::tools {

// Windows and tokens of a window, where gptq is chosen and neither is given.
inline constexpr int64_t kDefaultWindows = 16, kDefaultLength = 512;

// Floating-point operations of gptq on `windows` windows of `length` tokens, written by the model before that where
// `writes`.
double gptq_operations(const proto::ModelSpec& spec, int64_t windows, int64_t length, bool writes);

// About how many seconds so many operations take on all threads, with what else runs on the machine now. Measures
// that for some 50 ms, once.
double seconds_for(double operations);
std::string about_time(double seconds);  // "about 20 s", "about 3 min", "about 2 h"

// Fills in what the command leaves open, and says so in `o`: `method`, and `nsamples` and `seqlen` of gptq. Does
// nothing where a method is named.
void choose_method(QuantizeCommand& o, const proto::ModelSpec& spec);

// After a run whose method was chosen: what comes closer to the model, and how long it takes. Empty where nothing is
// known to.
std::string how_to_get_closer(const QuantizeCommand& o, const proto::ModelSpec& spec);

}  // namespace pith::tools
