#include "runtime/eval/choice.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/interrupt.h"
#include "core/json.h"
#include "runtime/cpu/kernels.h"
#include "runtime/eval/evaluate.h"

namespace pith {

std::vector<ChoiceTask> parse_choice_tasks(std::string_view lines, const std::string& name) {
  std::vector<ChoiceTask> tasks;
  for (int number = 1; !lines.empty(); ++number) {
    const auto line = lines.substr(0, lines.find('\n'));
    lines.remove_prefix(std::min(lines.size(), line.size() + 1));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}, line {}", name, number);
    const Json j = parse_json(line, where);
    ChoiceTask t;
    t.prompt = json_string(j, "prompt", where);
    const Json& choices = json_member(j, "choices", where);
    if (!choices.is_array() || choices.size() < 2)
      fail(ErrorKind::kCorrupt, "{}: \"choices\" should be a list of two or more", where);
    for (const auto& c : choices) {
      if (!c.is_string() || c.get_ref<const std::string&>().empty())
        fail(ErrorKind::kCorrupt, "{}: a choice is not a text", where);
      t.choices.push_back(c.get<std::string>());
    }
    t.answer = json_uint(j, "answer", where);
    if (t.answer >= t.choices.size())
      fail(ErrorKind::kCorrupt, "{}: answer {} of {} choices", where, t.answer, t.choices.size());
    tasks.push_back(std::move(t));
  }
  if (tasks.empty()) fail(ErrorKind::kUsage, "{}: no tasks", name);
  return tasks;
}

namespace {

// log P(choice | prompt). The choice's tokens are those of the joined text behind the common prefix
// with the prompt's.
double log_probability(Executor& executor, const Model& model, const Tokenizer& tokenizer,
                       const std::string& prompt, const std::string& choice) {
  const auto before = tokenizer.encode(prompt);
  auto tokens = tokenizer.encode(prompt + choice);
  const auto shared = std::ranges::mismatch(before, tokens).in1 - before.begin();
  int64_t first = std::max<int64_t>(1, shared);
  const auto context = static_cast<int64_t>(model.spec.context());
  if (const auto n = static_cast<int64_t>(tokens.size());
      n > context) {  // the end of the prompt is what fits
    tokens.erase(tokens.begin(), tokens.begin() + (n - context));
    first = std::max<int64_t>(1, first - (n - context));
  }
  const auto n = static_cast<int64_t>(tokens.size());
  if (n <= first) fail(ErrorKind::kUsage, "the choice \"{}\" adds no token to its prompt", choice);
  const auto logits = window_logits(executor, model, {tokens, first - 1});
  const auto vocab = static_cast<int64_t>(model.spec.vocab());
  double sum = 0;
  for (int64_t i = first; i < n; ++i) {
    const float* row = logits.data() + (i - first) * vocab;
    sum += static_cast<double>(row[tokens[static_cast<size_t>(i)]]) -
           cpu_kernels().log_sum_exp(row, vocab);
  }
  if (!std::isfinite(sum)) fail(ErrorKind::kNumeric, "the model's output is not finite");
  return sum;
}

}  // namespace

ChoiceResult evaluate_choice(Executor& executor, const Model& model, const Tokenizer& tokenizer,
                             const std::vector<ChoiceTask>& tasks, Progress& progress) {
  ChoiceResult r;
  int64_t right = 0, right_by_length = 0;
  progress.begin("choosing", static_cast<int64_t>(tasks.size()));
  for (const auto& t : tasks) {
    check_interrupt();
    std::vector<double> sums, per_byte;
    for (const auto& c : t.choices) {
      sums.push_back(log_probability(executor, model, tokenizer, t.prompt, c));
      per_byte.push_back(sums.back() / static_cast<double>(c.size()));
    }
    right += static_cast<size_t>(std::ranges::max_element(sums) - sums.begin()) == t.answer;
    right_by_length +=
        static_cast<size_t>(std::ranges::max_element(per_byte) - per_byte.begin()) == t.answer;
    progress.advance(++r.tasks, "");
  }
  progress.end();
  const auto n = static_cast<double>(r.tasks);
  r.accuracy = static_cast<double>(right) / n;
  r.accuracy_by_length = static_cast<double>(right_by_length) / n;
  r.standard_error = std::sqrt(r.accuracy * (1 - r.accuracy) / n);
  return r;
}

}  // namespace pith
