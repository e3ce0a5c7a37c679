// Mixed precision: which encoding each group of linears gets, for a size or a divergence that is
// asked for.
//
// A group is the linears of a stage (they share their input, and kernels may fuse them), the
// embedding, or the head. Each group is rounded alone, to each candidate, in an otherwise untouched
// model. The divergence of the model's output is measured on a few tokens for the smallest
// candidates, until two of them have a small error. Few tokens make a noisy divergence, but the
// error of a rounding is known without noise, and small errors cause divergence in proportion to
// them: so the two together give the slope of a group, and the slope the cost of all candidates
// with small errors. Costs are taken to add up (they do above some 3 bits):
// runtime/compress/allocation.h chooses.
#pragma once

#include <string>
#include <vector>

#include "core/function_ref.h"
#include "core/progress.h"
#include "quant/quantize_pass.h"

namespace pith {

struct Choice {
  Encoding encoding;
  uint64_t bytes = 0;
  double kl = 0;     // of the model with this group alone rounded so
  double error = 0;  // squared, of the outputs (of the weights without a text), as a share of them;
                     // 0: not known
  bool measured = true;  // kl; else it follows from the error
};
struct AllocationGroup {
  std::vector<LinearInfo> linears;
  std::vector<Choice> choices;  // by bytes
  size_t chosen = 0;
};

// Arguments of measure_choices(). All of them outlive it.
struct Measurement {
  const ModelSource& source;
  // Which linears are left out (ignore, and those with an override) and how the others are rounded:
  // by GPTQ, from statistics of `calibration`, where the method is that; else by rtn, as tables
  // always are.
  const QuantizeSettings& settings;
  const std::vector<Encoding>& candidates;
  const std::vector<std::vector<int32_t>>& windows;      // measured on their later halves, at once
  const std::vector<std::vector<int32_t>>& calibration;  // some thousand tokens do
};
// Calls `keep` with each group as soon as it is measured. `known`: groups of an earlier call with
// the same arguments, which are not measured again.
std::vector<AllocationGroup> measure_choices(
    const Measurement& what, Executor& executor, Progress& progress = no_progress(),
    const std::vector<AllocationGroup>& known = {},
    FunctionRef<void(const AllocationGroup&)> keep = [](const AllocationGroup&) {});
// The groups that measure_choices measures, and how often it runs the model, at most.
struct MeasuringPlan {
  int64_t groups = 0, runs = 0;
};
MeasuringPlan plan_measuring(const ModelSource& source, const QuantizeSettings& settings,
                             const std::vector<Encoding>& candidates);
// An estimate of the memory that measure_choices takes beside the executor and the program.
uint64_t measuring_bytes(const Measurement& what);

// Chooses so that the bytes are at most `budget` and the sum of KL is small. False where even the
// smallest choices do not fit: those are then chosen.
bool choose_for_bytes(std::vector<AllocationGroup>& groups, uint64_t budget);
// Chooses few bytes so that the sum of KL is at most `kl`. False where the largest exceed it.
bool choose_for_kl(std::vector<AllocationGroup>& groups, double kl);

uint64_t smallest_bytes(const std::vector<AllocationGroup>& groups);
uint64_t chosen_bytes(const std::vector<AllocationGroup>& groups);
double chosen_kl(const std::vector<AllocationGroup>& groups);

// The choice as lines "NAME=TYPE", for people and for --tensor-type-file; and as overrides.
std::vector<std::pair<std::string, Encoding>> overrides_of(
    const std::vector<AllocationGroup>& groups);

}  // namespace pith
