// The residual of compressed layers: behind a pass that rounds (or prunes), each linear gains a
// low-rank term up (w x) that gives back the most of what was lost on the text.
//
// For E = T - Q, where Q is what the linear decodes to by now, the term is the truncated singular
// value decomposition of E S (EoRA, Liu et al. 2024; QERA, Zhang et al. 2024; factors.h). T is the
// original weight, corrected for the errors of the stage's inputs as GPTQ's target is
// (stage_inputs.h). The original is that of the source of this run: both passes are to be in one
// run, since a packed file does not know what it was.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lowrank/ranks.h"
#include "lowrank/stage_inputs.h"
#include "runtime/compress/pass.h"
#include "runtime/compress/settings.h"

namespace pith {

struct ResidualSettings {
  int64_t rank = 16;             // of all compressed linears; more than they have sides: that
  RankOverrides overrides = {};  // rank 0: no residual
  Encoding factors = Encoding::dense(DType::kF16);
  bool whiten = true;  // false: plain SVD of E, without a text
  InputOptions inputs = {};
  std::vector<std::string> ignore = {};  // patterns of linears that stay as they are
};

// The settings of a step `residual` of a recipe. Error(kUsage).
ResidualSettings read_residual_settings(SettingsReader& reader);

// Dense linears of 16 bits and more have no residual. apply(): Error(kUsage) where a linear is
// what the source has.
std::unique_ptr<Pass> make_residual_pass(const ResidualSettings& settings);

}  // namespace pith
