// How much work a compression is, and how long it takes.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/model/spec.h"

namespace pith::tools {

struct TextSize {
  int64_t windows, length;
};

// Floating-point operations of gptq, or of rtn weighted by inputs, on so much text, of which the
// model writes the share `written` before that.
struct RoundingWork {
  bool gptq = false;
  bool paths = false;  // linears become trellis codes
};
double operations_of(const proto::ModelSpec& spec, RoundingWork work, TextSize text,
                     double written);

// About how many seconds so many operations take on all threads where nothing else runs. Measures
// the processor for some 50 ms, once.
double seconds_for(double operations);
std::string about_time(double seconds);  // "about 20 s", "about 3 min", "about 2 h"

}  // namespace pith::tools
