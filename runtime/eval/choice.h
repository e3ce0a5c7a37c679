// Multiple choice: the choice that the model finds likeliest as a continuation of the prompt, by
// sum of log probabilities ("acc" of lm-evaluation-harness) and by that sum per character of the
// choice ("acc_norm").
//
// Tasks are read as their data sets publish them; prompts are those of lm-evaluation-harness's
// definitions without examples. Each line of JSON, or each item of one JSON list:
//   HellaSwag    {activity_label, ctx_a, ctx_b (or ctx), endings, label}: "activity: ctx_a Ctx_b"
//                without the [brackets] of WikiHow; choices: the endings, cleaned alike
//   Winogrande   {sentence, option1, option2, answer: "1" or "2"}: the sentence up to its "_" with
//                either option; scored is what follows the "_", which is the same for both
//   ARC          {question: {stem, choices: [{text, label}]}, answerKey}, or {question, choices:
//                {text: [], label: []}, answerKey}: "Question: ...\nAnswer:"; choices: the texts
//   MMLU         {question, choices: [], answer: index, subject}, or CSV of question, the choices,
//                the letter: "The following are multiple choice questions (with answers) about
//                SUBJECT.\n\nquestion\nA. ...\nB. ...\nAnswer:"; choices: the letters
//   lm-eval      {query, choices, gold}
//   plain        {prompt, choices, answer: index}: joined as they are; all others put a blank
//                between prompt and choice
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/progress.h"
#include "formats/tokenizer/tokenizer.h"
#include "runtime/eval/evaluate.h"
#include "runtime/forward/executor.h"

namespace pith {

struct ChoiceTask {
  std::string prompt;
  std::vector<std::string> choices;
  size_t answer = 0;
  // One for each choice, where the prompts differ and the continuation is the same (Winogrande).
  std::vector<std::string> prompts = {};
  std::string delimiter = "";  // between prompt and choice
  std::string subject = "";    // of MMLU
};

struct ChoiceTasks {
  std::string format;             // "HellaSwag", ...
  std::vector<std::string> keys;  // by which it was known; none for plain tasks and CSV
  std::vector<ChoiceTask> tasks;
};

// Error(kCorrupt) naming line and key; Error(kUsage) where there are none. MMLU's CSV files do not
// say their subject: it is that of the file's name, `subject_test.csv`.
ChoiceTasks read_choice_tasks(std::string_view text, const std::string& name);
std::vector<ChoiceTask> parse_choice_tasks(std::string_view text, const std::string& name);

// Puts the first `shots` examples (of the same subject, where they have one) with their answers
// before each prompt. Error(kUsage) where there are fewer.
void add_shots(const std::vector<ChoiceTask>& examples, int64_t shots,
               std::vector<ChoiceTask>* tasks);

// The first line of MMLU's prompts goes before examples: this puts it there, after add_shots.
void add_descriptions(std::vector<ChoiceTask>* tasks);

struct ChoiceResult {
  int64_t tasks = 0;
  double accuracy = 0, accuracy_by_length = 0;
  // Wilson's 95 % interval for the accuracy, and half its width over 1.96, which is not 0 even
  // where a few tasks were all right.
  double low = 0, high = 0, standard_error = 0;
};

// The windows that are scored, one for each choice of each task.
std::vector<Window> choice_windows(const Model& model, const Tokenizer& tokenizer,
                                   const std::vector<ChoiceTask>& tasks);

ChoiceResult evaluate_choice(Executor& executor, const Model& model, const Tokenizer& tokenizer,
                             const std::vector<ChoiceTask>& tasks,
                             Progress& progress = no_progress(), const EvaluationFiles& files = {});

}  // namespace pith
