// A recipe: what `pith compress` does to a model, in order, in YAML.
//
//   steps:
//     - rotate:
//     - quantize: {type: tcq3, method: gptq, tensor_type: [down: tcq4]}
//   calibration:
//     texts: [self, chat.jsonl: 2]     # with weights
//     windows: 64
//     tokens: 1024                     # of a window
//   seed: 0
//
// The keys of a step are the long options of the command that does it alone, with _ for -. What a
// packed file says of how it was made (pith inspect --recipe) is such a recipe.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "lowrank/factorize_pass.h"
#include "lowrank/residual_pass.h"
#include "prune/prune_pass.h"
#include "quant/quantize_pass.h"
#include "quant/rotate.h"
#include "tools/calibration_text.h"
#include "tools/time_estimate.h"

namespace pith::tools {

using Step = std::variant<RotateOptions, PruneSettings, FactorizeSettings, QuantizeSettings,
                          ResidualSettings>;

struct RecipeText {
  CalibrationInput input;
  std::string hash = {};  // as a file says it, of the text; empty: any text
};

struct Recipe {
  std::vector<Step> steps;
  bool has_calibration = false;  // else what the steps need
  std::vector<RecipeText> texts = {};
  std::optional<int64_t> windows = {}, tokens = {};
  std::optional<uint64_t> seed = {};
  std::vector<size_t> seeded_by_recipe = {};  // rotations that take the seed of all
  bool sequential = true, propagate = true;
  std::string device = {};  // empty: it does not say
};

// Error(kUsage) with line and column: what is not YAML, unknown keys (with the nearest known one),
// values of another type or out of range, and steps in an order that undoes the earlier ones.
Recipe parse_recipe(std::string_view text, const std::string& name);

// A recipe of one step, whose settings are options: errors name them as such.
Recipe recipe_of_step(const std::string& step, const YamlNode& settings);

// How a kind of step is called and read, in the order of Step.
struct StepKind {
  const char *name, *summary;
  int stage;        // no step of a higher one stands before it
  const char* why;  // that is so
  Step (*read)(SettingsReader&);
};
std::span<const StepKind> step_kinds();

// The model that the passes see: `stored` through the steps that change it as a whole. The result
// refers to `stored`, and to `between`.
const ModelSource& source_for(const Recipe& recipe, const ModelSource& stored,
                              std::vector<std::unique_ptr<ModelSource>>* between);
Passes passes_for(const Recipe& recipe);
std::string title_of(const Recipe& recipe);  // "rotate, int4-g64 with gptq"
RoundingWork work_of(const Recipe& recipe);

}  // namespace pith::tools
