#include "runtime/eval/choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "runtime/eval/evaluate.h"
#include "tests/support/fake_tokenizer.h"
#include "tests/support/tiny_runtime.h"

namespace pith {
namespace {

TEST(ChoiceTasks, are_read_line_by_line) {
  const auto tasks = parse_choice_tasks(
      "{\"prompt\": \"p\\n\", \"choices\": [\"a\", \" b\"], \"answer\": 1}\r\n"
      "  \n"
      "{\"answer\": 0, \"choices\": [\"x\", \"y\", \"z\"], \"prompt\": \"\", \"more\": 3}",
      "tasks");
  ASSERT_EQ(tasks.size(), 2u);
  EXPECT_EQ(tasks[0].prompt, "p\n");
  EXPECT_EQ(tasks[0].choices, (std::vector<std::string>{"a", " b"}));
  EXPECT_EQ(tasks[0].answer, 1u);
  EXPECT_EQ(tasks[1].choices.size(), 3u);
}

TEST(ChoiceTasks, wrong_lines_are_named) {
  const std::string good = R"({"prompt": "p", "choices": ["a", "b"], "answer": 1})";
  for (const auto& [line, text] :
       {std::pair<const char*, const char*>{"{", "line 2"},
        {"[]", "line 2"},
        {R"({"choices": ["a", "b"], "answer": 0})", "prompt"},
        {R"({"prompt": 3, "choices": ["a", "b"], "answer": 0})", "prompt"},
        {R"({"prompt": "p", "answer": 0})", "choices"},
        {R"({"prompt": "p", "choices": ["a"], "answer": 0})", "two or more"},
        {R"({"prompt": "p", "choices": "ab", "answer": 0})", "two or more"},
        {R"({"prompt": "p", "choices": ["a", ""], "answer": 0})", "not a text"},
        {R"({"prompt": "p", "choices": ["a", 1], "answer": 0})", "not a text"},
        {R"({"prompt": "p", "choices": ["a", "b"]})", "answer"},
        {R"({"prompt": "p", "choices": ["a", "b"], "answer": -1})", "answer"},
        {R"({"prompt": "p", "choices": ["a", "b"], "answer": 2})", "answer 2 of 2"}}) {
    EXPECT_PITH_ERROR(parse_choice_tasks(good + "\n" + line, "tasks.jsonl"), ErrorKind::kCorrupt,
                      text);
    EXPECT_PITH_ERROR(parse_choice_tasks(good + "\n" + line, "tasks.jsonl"), ErrorKind::kCorrupt,
                      "tasks.jsonl, line 2");
  }
  EXPECT_PITH_ERROR(parse_choice_tasks(" \n\n", "tasks.jsonl"), ErrorKind::kUsage, "no tasks");
}

// Letters as tokens, and one token of two letters that a choice may complete.
test::FakeTokenizer letters() {
  std::vector<std::string> texts;
  for (char c = 'a'; c <= 'z'; ++c) texts.emplace_back(1, c);
  texts.emplace_back("qu");
  return test::FakeTokenizer(std::move(texts));
}

class Choosing : public testing::Test {
 protected:
  // Of the tokens behind the first `given`, in float64.
  double log_probability(const std::vector<int32_t>& tokens, int64_t given) {
    const auto logits = window_logits(*executor_, model_, {tokens, 0});
    double sum = 0;
    for (size_t i = static_cast<size_t>(given); i < tokens.size(); ++i) {
      const float* row = logits.data() + (i - 1) * 96;
      double total = 0;
      for (int t = 0; t < 96; ++t) total += std::exp(static_cast<double>(row[t]));
      sum += static_cast<double>(row[tokens[i]]) - std::log(total);
    }
    return sum;
  }
  ChoiceResult run(const std::vector<ChoiceTask>& tasks) {
    return evaluate_choice(*executor_, model_, tokenizer_, tasks);
  }

  const test::TinyRuntime tiny_;
  const Model model_ = tiny_.model();
  const std::unique_ptr<Executor> executor_ = make_cpu_executor();
  const test::FakeTokenizer tokenizer_ = letters();
};

TEST_F(Choosing, takes_the_likeliest_by_sum_and_by_byte) {
  const std::vector<std::string> choices = {"x", "fghi", "abcabcabc", "me"};
  int by_sum_differs = 0;
  for (const std::string prompt : {"hello", "k", "zzzzyx", "ab", "good", "time"}) {
    std::vector<double> sums, per_byte;
    for (const auto& c : choices) {
      sums.push_back(
          log_probability(tokenizer_.encode(prompt + c, {}), static_cast<int64_t>(prompt.size())));
      per_byte.push_back(sums.back() / static_cast<double>(c.size()));
    }
    const auto best = static_cast<size_t>(std::ranges::max_element(sums) - sums.begin());
    const auto best_by_byte =
        static_cast<size_t>(std::ranges::max_element(per_byte) - per_byte.begin());
    by_sum_differs += best != best_by_byte;
    for (size_t answer = 0; answer < choices.size(); ++answer) {
      const auto r = run({{prompt, choices, answer}});
      EXPECT_EQ(r.accuracy, answer == best ? 1 : 0) << prompt;
      EXPECT_EQ(r.accuracy_by_length, answer == best_by_byte ? 1 : 0) << prompt;
    }
  }
  EXPECT_GT(by_sum_differs, 0) << "the prompts do not tell the two apart";
}

// "q" and "u" become one token, which is scored as a whole.
TEST_F(Choosing, scores_a_token_that_prompt_and_choice_share) {
  const double joined = log_probability(tokenizer_.encode("xqu", {}), 1);
  const double apart = log_probability(tokenizer_.encode("xqa", {}), 2);
  const size_t best = joined > apart ? 0 : 1;
  EXPECT_EQ(run({{"xq", {"u", "a"}, best}}).accuracy, 1);
}

TEST_F(Choosing, long_prompts_lose_their_beginning) {
  const std::string end = "abcdefghijklmnopqrstvwxyzabcdefghijklmnopqrstvwxyzabcdefghijkl";  // 62
  const std::vector<std::string> choices = {"bc", "xy"};
  std::vector<double> sums;
  for (const auto& c : choices) sums.push_back(log_probability(tokenizer_.encode(end + c, {}), 62));
  const auto best = static_cast<size_t>(std::ranges::max_element(sums) - sums.begin());
  EXPECT_EQ(run({{std::string(500, 'z') + end, choices, best}}).accuracy, 1);
}

TEST_F(Choosing, counts_and_errors_are_those_of_a_proportion) {
  const std::vector<std::string> choices = {"a", "b"};
  const size_t best = run({{"xyz", choices, 0}}).accuracy == 1 ? 0 : 1;
  const auto r = run({{"xyz", choices, best},
                      {"xyz", choices, 1 - best},
                      {"xyz", choices, best},
                      {"xyz", choices, best}});
  EXPECT_EQ(r.tasks, 4);
  EXPECT_EQ(r.accuracy, 0.75);
  EXPECT_NEAR(r.standard_error, std::sqrt(0.75 * 0.25 / 4), 1e-12);
}

TEST_F(Choosing, what_cannot_be_scored_is_refused) {
  EXPECT_PITH_ERROR(run({{"abc", {"d", "!!"}, 0}}), ErrorKind::kUsage, "\"!!\" adds no token");
  EXPECT_PITH_ERROR(run({{"", {"d", "e"}, 0}}), ErrorKind::kUsage, "adds no token");
}

TEST_F(Choosing, a_model_that_is_not_finite_is_an_error) {
  Model broken = model_;
  broken.final_norm.weight[5] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_PITH_ERROR(evaluate_choice(*executor_, broken, tokenizer_, {{"abc", {"d", "e"}, 0}}),
                    ErrorKind::kNumeric, "not finite");
}

}  // namespace
}  // namespace pith
