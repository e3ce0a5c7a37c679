// Multiple choice: the choice that the model finds likeliest as a continuation of the prompt, by
// sum of log probabilities ("acc" of lm-evaluation-harness) and by that sum per byte of the choice
// ("acc_norm").
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/progress.h"
#include "formats/tokenizer/tokenizer.h"
#include "runtime/executor.h"

namespace pith {

struct ChoiceTask {
  std::string prompt;
  std::vector<std::string> choices;
  size_t answer = 0;
};

struct ChoiceResult {
  int64_t tasks = 0;
  double accuracy = 0, accuracy_by_length = 0;
  double standard_error = 0;  // of accuracy
};

// One JSON object a line: {"prompt": text, "choices": [text, ...], "answer": index}.
// Error(kCorrupt) naming the line.
std::vector<ChoiceTask> parse_choice_tasks(std::string_view lines, const std::string& name);

ChoiceResult evaluate_choice(Executor& executor, const Model& model, const Tokenizer& tokenizer,
                             const std::vector<ChoiceTask>& tasks,
                             Progress& progress = no_progress());

}  // namespace pith
