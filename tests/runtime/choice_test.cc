#include "runtime/eval/choice.h"
#include "runtime/cpu/cpu_executor.h"

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

// A published form of each data set, in miniature.
TEST(ChoiceTasks, are_read_as_their_data_sets_publish_them) {
  struct Case {
    const char *text, *format;
    std::vector<std::string> prompts;  // one, or one for each choice
    std::vector<std::string> choices;
    size_t answer;
  };
  const Case cases[] = {
      {R"({"ind": 1, "activity_label": "Baking", "ctx_a": "[header] How to bake [title] Mix.",
           "ctx_b": "the COOK", "ctx": "unused", "endings": [" [step] stirs.  Slowly", "eats"],
           "label": "1", "split": "val"})",
       "HellaSwag",
       {"Baking: How to bake. Mix. The cook"},
       {" stirs. Slowly", "eats"},
       1},
      {R"({"activity_label": "A", "ctx": "b c", "endings": ["d", "e"], "label": 0})",
       "HellaSwag",
       {"A: b c"},
       {"d", "e"},
       0},
      {R"({"qID": "x-1", "sentence": "The cup missed the box because the _ was wide .",
           "option1": "cup", "option2": "box", "answer": "1"})",
       "Winogrande",
       {"The cup missed the box because the cup", "The cup missed the box because the box"},
       {"was wide .", "was wide ."},
       0},
      {R"({"id": "M_1", "question": {"stem": "What melts?", "choices": [
           {"text": "ice", "label": "A"}, {"text": "stone", "label": "B"}]}, "answerKey": "A"})",
       "ARC",
       {"Question: What melts?\nAnswer:"},
       {"ice", "stone"},
       0},
      {R"({"id": "M_2", "question": "Which?", "answerKey": "2",
           "choices": {"text": ["a", "b", "c"], "label": ["1", "2", "3"]}})",
       "ARC",
       {"Question: Which?\nAnswer:"},
       {"a", "b", "c"},
       1},
      {R"({"question": " One? ", "subject": "high_school_x", "choices": ["p", "q"], "answer": 1})",
       "MMLU",
       {"One?\nA. p\nB. q\nAnswer:"},
       {"A", "B"},
       1},
      {R"({"question": "One?", "choices": ["p", "q"], "answer": "B"})",
       "MMLU",
       {"One?\nA. p\nB. q\nAnswer:"},
       {"A", "B"},
       1},
      {"\"One, \"\"two\"\"\nor more?\",1,2,\"3, 4\",5,C\r\n",
       "MMLU",
       {"One, \"two\"\nor more?\nA. 1\nB. 2\nC. 3, 4\nD. 5\nAnswer:"},
       {"A", "B", "C", "D"},
       2},
      {R"({"query": "Two and two", "choices": ["make four", "x"], "gold": 0})",
       "lm-eval",
       {"Two and two"},
       {"make four", "x"},
       0},
      {R"({"prompt": "p ", "choices": ["a", "b"], "answer": "1"})", "plain", {"p "}, {"a", "b"}, 1},
  };
  for (const Case& c : cases) {
    // JSON may be a list, or what the data sets' viewer gives; lines have no breaks inside.
    std::string line = c.text;
    std::vector<std::string> forms = {line};
    if (line[0] == '{') {
      for (char& ch : line) ch = ch == '\n' ? ' ' : ch;
      forms = {line, line + "\n\n" + line + "\r\n", "[" + line + "]",
               R"({"features": [], "rows": [{"row_idx": 0, "row": )" + line + "}]}"};
    }
    for (const auto& form : forms) {
      SCOPED_TRACE(form);
      const auto got = read_choice_tasks(form, "tasks");
      EXPECT_EQ(got.format, c.format);
      const ChoiceTask& t = got.tasks[0];
      EXPECT_EQ(t.prompts.empty() ? std::vector<std::string>{t.prompt} : t.prompts, c.prompts);
      EXPECT_EQ(t.choices, c.choices);
      EXPECT_EQ(t.answer, c.answer);
      EXPECT_EQ(t.delimiter, got.format == "plain" ? "" : " ");
    }
  }
}

TEST(ChoiceTasks, of_every_format_name_what_is_wrong) {
  for (const auto& [text, message] : {
           std::pair<const char*, const char*>{
               R"({"activity_label": "A", "ctx": "b", "endings": ["d", "e"], "label": ""})",
               "line 1: \"label\" is empty: a part without answers?"},
           {R"({"activity_label": "A", "ctx": "b", "endings": ["d"], "label": 0})", "\"endings\""},
           {R"({"ctx": "b", "endings": ["d", "e"], "label": 0})", "\"activity_label\" is missing"},
           {R"({"sentence": "no gap", "option1": "a", "option2": "b", "answer": "1"})", "no _"},
           {R"({"sentence": "a _ b", "option1": "a", "option2": "b", "answer": "3"})", "answer"},
           {R"({"sentence": "a _ b", "option1": "a", "option2": "b", "answer": "0"})", "1 or 2"},
           {R"({"sentence": "a _ b", "option1": "a", "option2": "b"})", "\"answer\" is missing"},
           {R"({"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]},
                "answerKey": "C"})",
            "\"answerKey\" is \"C\""},
           {R"({"question": "q", "choices": ["a", "b"], "answer": 2})", "answer 2 of 2"},
           {R"({"question": "q", "choices": ["a", "b"], "answer": "E"})", "no letter"},
           {"q,a,b,c,d,E", "line 1: \"answer\" is \"E\""},
           {"q,a,b,c,d,A\n\"q,a,b", "line 2: a quote that does not end"},
           {"just text", "neither JSON nor"},
           {"{\"prompt\": }", "line 1"},
       }) {
    std::string line = text;
    for (char& ch : line) ch = ch == '\n' && line[0] == '{' ? ' ' : ch;
    EXPECT_PITH_ERROR(read_choice_tasks(line, "t"), ErrorKind::kCorrupt, message);
    try {
      read_choice_tasks(line, "t");
    } catch (const Error& e) {
      EXPECT_EQ(std::string(e.what()).find("json.exception"), std::string::npos) << e.what();
    }
  }
  EXPECT_PITH_ERROR(read_choice_tasks(R"([{"query": "a", "choices": ["b", "c"], "gold": 0},
                                          {"prompt": "a", "choices": ["b", "c"], "answer": 0}])",
                                      "t"),
                    ErrorKind::kCorrupt, "item 2: a task of plain among those of lm-eval");
}

TEST(ChoiceTasks, examples_and_the_subject_come_first) {
  const std::string name = "data/abstract_algebra_test.csv";
  auto tasks = parse_choice_tasks("What?,1,2,3,4,B\n", name);
  const auto examples =
      parse_choice_tasks("One?,a,b,c,d,A\nTwo?,a,b,c,d,D\n", "data/abstract_algebra_dev.csv");
  add_shots(examples, 1, &tasks);
  add_descriptions(&tasks);
  EXPECT_EQ(tasks[0].prompt,
            "The following are multiple choice questions (with answers) about abstract "
            "algebra.\n\nOne?\nA. a\nB. b\nC. c\nD. d\nAnswer: A\n\nWhat?\nA. 1\nB. 2\nC. 3\nD. "
            "4\nAnswer:");
  EXPECT_PITH_ERROR(add_shots(examples, 3, &tasks), ErrorKind::kUsage,
                    "2 examples of abstract_algebra, 3 were asked for");
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
  // The log probability of the tokens behind the first `given`, in float64.
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
  // Wilson's interval of 3 of 4.
  EXPECT_NEAR(r.low, 0.3006, 1e-4);
  EXPECT_NEAR(r.high, 0.9544, 1e-4);
  EXPECT_NEAR(r.standard_error, (r.high - r.low) / 2 / 1.959964, 1e-12);
  // Two of two are no certainty.
  const auto two = run({{"xyz", choices, best}, {"xyz", choices, best}});
  EXPECT_EQ(two.accuracy, 1);
  EXPECT_GT(two.standard_error, 0.1);
  EXPECT_LT(two.low, 0.4);
  EXPECT_EQ(two.high, 1);
}

// Prompts that differ and what follows is the same: the choice whose prompt makes it likelier.
TEST_F(Choosing, prompts_may_differ_instead_of_choices) {
  const double a = log_probability(tokenizer_.encode("abcxyz", {}), 3),
               b = log_probability(tokenizer_.encode("ghijxyz", {}), 4);
  const ChoiceTask t{.prompt = "",
                     .choices = {"xyz", "xyz"},
                     .answer = a > b ? 0u : 1u,
                     .prompts = {"abc", "ghij"}};
  EXPECT_EQ(run({t}).accuracy, 1);
}

// Measurements of an interrupted run are not repeated.
TEST_F(Choosing, goes_on_from_a_table_to_the_same_figures) {
  std::vector<ChoiceTask> tasks;
  for (const std::string prompt : {"hello", "k", "zzzzyx", "ab", "good", "time"})
    tasks.push_back({prompt, {"x", "fghi", "me"}, 0});
  Measurements whole(1);
  const auto all = evaluate_choice(*executor_, model_, tokenizer_, tasks, no_progress(), {&whole});
  Measurements part(1);
  for (size_t i = 0; i < 5; ++i) part.add({{whole.at(i, 0)}});
  const auto rest = evaluate_choice(*executor_, model_, tokenizer_, tasks, no_progress(), {&part});
  EXPECT_EQ(rest.accuracy, all.accuracy);
  ASSERT_EQ(part.rows(), whole.rows());
  for (size_t i = 0; i < whole.rows(); ++i) EXPECT_EQ(part.at(i, 0), whole.at(i, 0));
}

TEST_F(Choosing, what_cannot_be_scored_is_refused) {
  EXPECT_PITH_ERROR(run({{"abc", {"d", "!!"}, 0}}), ErrorKind::kUsage, "\"!!\" adds no token");
  EXPECT_PITH_ERROR(run({{"", {"d", "e"}, 0}}), ErrorKind::kUsage, "adds no token");
}

TEST_F(Choosing, a_model_that_is_not_finite_is_an_error) {
  Model broken = model_;
  broken.final_norm.weight.edit()[5] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_PITH_ERROR(evaluate_choice(*executor_, broken, tokenizer_, {{"abc", {"d", "e"}, 0}}),
                    ErrorKind::kNumeric, "not finite");
}

}  // namespace
}  // namespace pith
