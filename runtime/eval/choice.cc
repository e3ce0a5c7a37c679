#include "runtime/eval/choice.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/utf8.h"

namespace pith {
namespace {

int64_t characters(std::string_view text) {
  return std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; });
}

// The scored tokens of a choice are those of the joined text behind the common prefix with the
// prompt's.
Window window_of(const Tokenizer& tokenizer, int64_t context, const std::string& prompt,
                 const std::string& choice) {
  const auto before = tokenizer.encode(prompt);
  auto tokens = tokenizer.encode(prompt + choice);
  const auto shared = std::ranges::mismatch(before, tokens).in1 - before.begin();
  int64_t first = std::max<int64_t>(1, shared);
  if (const auto n = static_cast<int64_t>(tokens.size());
      n > context) {  // the end of the prompt is what fits
    tokens.erase(tokens.begin(), tokens.begin() + (n - context));
    first = std::max<int64_t>(1, first - (n - context));
  }
  if (static_cast<int64_t>(tokens.size()) <= first)
    fail(ErrorKind::kUsage, "the choice \"{}\" adds no token to its prompt", choice);
  return {std::move(tokens), first - 1};
}

size_t best_of(std::span<const double> values) {
  return static_cast<size_t>(std::ranges::max_element(values) - values.begin());
}

std::string labelled_example(const ChoiceTask& t) {
  const std::string& prompt = t.prompts.empty() ? t.prompt : t.prompts[t.answer];
  return prompt + t.delimiter + t.choices[t.answer] + "\n\n";
}

template <class F>
void each_prompt(ChoiceTask* t, F f) {
  f(&t->prompt);
  for (auto& p : t->prompts) f(&p);
}

}  // namespace

void add_shots(const std::vector<ChoiceTask>& examples, int64_t shots,
               std::vector<ChoiceTask>* tasks) {
  for (auto& t : *tasks) {
    std::string before;
    int64_t found = 0;
    for (const auto& e : examples) {
      if (found == shots) break;
      if (e.subject != t.subject) continue;
      before += labelled_example(e);
      ++found;
    }
    if (found < shots) {
      fail(ErrorKind::kUsage, "{} examples{}{}, {} were asked for", found,
           t.subject.empty() ? "" : " of ", t.subject, shots);
    }
    each_prompt(&t, [&](std::string* p) { *p = before + *p; });
  }
}

void add_descriptions(std::vector<ChoiceTask>* tasks) {
  for (auto& t : *tasks) {
    if (t.subject.empty()) continue;
    std::string subject = t.subject;
    std::ranges::replace(subject, '_', ' ');
    each_prompt(&t, [&](std::string* p) {
      *p = "The following are multiple choice questions (with answers) about " + subject + ".\n\n" +
           *p;
    });
  }
}

std::vector<Window> choice_windows(const Model& model, const Tokenizer& tokenizer,
                                   const std::vector<ChoiceTask>& tasks) {
  std::vector<Window> windows;
  const auto context = static_cast<int64_t>(model.spec.context());
  for (const auto& t : tasks) {
    for (size_t c = 0; c < t.choices.size(); ++c) {
      windows.push_back(window_of(tokenizer, context, t.prompts.empty() ? t.prompt : t.prompts[c],
                                  t.delimiter + t.choices[c]));
    }
  }
  return windows;
}

ChoiceResult evaluate_choice(Executor& executor, const Model& model, const Tokenizer& tokenizer,
                             const std::vector<ChoiceTask>& tasks, Progress& progress,
                             const EvaluationFiles& files) {
  const auto windows = choice_windows(model, tokenizer, tasks);
  const auto nll = window_nll(executor, model, windows, progress, files);
  ChoiceResult r;
  double right = 0, right_by_length = 0;
  size_t window = 0;
  for (const auto& t : tasks) {
    std::vector<double> sums, by_length;
    for (const auto& c : t.choices) {
      sums.push_back(-nll[window++]);
      by_length.push_back(sums.back() / static_cast<double>(characters(c)));
    }
    right += best_of(sums) == t.answer;
    right_by_length += best_of(by_length) == t.answer;
    ++r.tasks;
  }
  const auto n = static_cast<double>(r.tasks);
  r.accuracy = right / n;
  r.accuracy_by_length = right_by_length / n;
  constexpr double z = 1.959964;
  const double middle = (right + z * z / 2) / (n + z * z);
  r.standard_error =
      std::sqrt(r.accuracy * (1 - r.accuracy) / n + z * z / (4 * n * n)) / (1 + z * z / n);
  r.low = std::max(0.0, middle - z * r.standard_error);
  r.high = std::min(1.0, middle + z * r.standard_error);
  return r;
}

}  // namespace pith
