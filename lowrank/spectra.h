// Measures what each linear of a model loses by rank: the singular values of W S for the inputs
// that the uncompressed model gives it on a text. choose_ranks() (ranks.h) makes ranks of them.
#pragma once

#include <string>
#include <vector>

#include "core/progress.h"
#include "lowrank/ranks.h"
#include "lowrank/stage_inputs.h"
#include "runtime/forward/executor.h"

namespace pith {

// Arguments of measure_spectra(). All of them outlive it.
struct SpectraRequest {
  const ModelSource& source;
  const std::vector<std::vector<int32_t>>& windows;  // of the text
  Damping damping = InputOptions{}.gram;
  std::vector<std::string> ignore = {};  // patterns of linears that are left out
  uint64_t memory = UINT64_MAX;          // hidden states that would take more go to a file
  std::string scratch = {};              // the folder of that file
};

// The curves of all linears of blocks that can be factorized, in model order. A linear whose
// inputs are not known (an expert to which no token came) has the singular values of its weights.
// Memory: one block, the hidden states of the windows, and what one stage takes; nothing is kept
// of a layer but its singular values. Error(kUnsupported) naming a linear of several terms.
std::vector<RankCurve> measure_spectra(const SpectraRequest& request, Executor& executor,
                                       Progress& progress = no_progress());

}  // namespace pith
