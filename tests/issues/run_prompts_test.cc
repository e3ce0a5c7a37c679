// Prompts from standard input and files, through the chat template and in bulk.

#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>

#include "core/file.h"
#include "core/json.h"
#include "tests/support/process.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

class RunPrompts : public testing::Test {
 protected:
  RunPrompts() {
    test::write_tiny_checkpoint(model(), test::tiny_config({.layers = 1, .vocab = 640}));
    std::filesystem::copy_file(test::fixture("golden/tokenizers/llama2_style.json"),
                               folder_.file("model/tokenizer.json"));
    put("model/tokenizer_config.json",
        Json{{"chat_template", "{% for m in messages %}{{ m.role }}{{ m.content }}{% endfor %}"}}
            .dump());
  }
  std::string model() const { return folder_.file("model"); }
  std::string put(const std::string& name, const std::string& text) {
    write_file(folder_.file(name), std::as_bytes(std::span(text)));
    return folder_.file(name);
  }
  test::ProcessResult run(std::vector<std::string> more, const std::string& input = "") {
    std::vector<std::string> c = {PITH_PROGRAM, "run", model(), "-n", "3", "-t", "1", "-q"};
    c.insert(c.end(), more.begin(), more.end());
    return test::run_process(c, {}, input);
  }

  test::TemporaryFolder folder_;
};

TEST_F(RunPrompts, come_from_standard_input_in_every_usual_way) {
  const std::string wanted = run({"-p", "the cat"}).out;
  EXPECT_EQ(wanted.find("the cat"), 0u);
  EXPECT_EQ(run({}, "the cat\n").out, wanted);
  EXPECT_EQ(run({}, "the cat\r\n").out, wanted);
  EXPECT_EQ(run({"-p", "-"}, "the cat\n").out, wanted);
  EXPECT_EQ(run({"-f", "-"}, "the cat").out, wanted);
  EXPECT_EQ(run({"-f", "/dev/stdin"}, "the cat").out, wanted);
  EXPECT_EQ(run({"-f", put("prompt", "the cat")}, "another").out, wanted);
  EXPECT_EQ(run({"-p", "the cat"}, "another").out, wanted);
  EXPECT_NE(run({"-f", "a", "-p", "b"}).exit_code, 0);
}

TEST_F(RunPrompts, that_are_missing_are_said_to_be) {
  const auto r = test::run_process({PITH_PROGRAM, "run", model(), "-n", "1", "-t", "1"});
  EXPECT_EQ(r.exit_code, 0) << r.err;
  EXPECT_NE(r.err.find("no prompt: "), std::string::npos) << r.err;
}

TEST_F(RunPrompts, that_are_too_long_are_not_printed_but_measured) {
  std::string text;
  for (int i = 0; i < 200; ++i) text += "the cat ";
  const auto r = run({"-p", text, "-c", "32"});
  EXPECT_EQ(r.exit_code, 2);
  EXPECT_EQ(r.out, "");
  EXPECT_NE(r.err.find("the context 32: "), std::string::npos) << r.err;
  EXPECT_LT(r.err.size(), 300u);
}

TEST_F(RunPrompts, go_through_the_chat_template_where_asked) {
  const auto tokens = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"--json", "-"});
    return parse_json(run(more).out, "output")["prompt_tokens"].get<int>();
  };
  EXPECT_GT(tokens({"--chat", "-p", "hello"}), tokens({"-p", "hello"}));
  EXPECT_GT(tokens({"-sys", "you rhyme", "-p", "hello"}), tokens({"--chat", "-p", "hello"}));
  EXPECT_EQ(run({"--chat", "-p", "hello"}).out.find("hello"), std::string::npos);
}

TEST_F(RunPrompts, of_a_file_become_json_lines) {
  std::string longer;
  for (int i = 0; i < 100; ++i) longer += "the cat ";
  for (const std::string& text :
       {"the cat\n\n" + longer + "\r\nthe mat\n", Json{{"prompt", "the cat"}}.dump() + "\n" +
                                                      Json{{"prompt", longer}}.dump() + "\n" +
                                                      Json{{"prompt", "the mat"}}.dump()}) {
    const auto r = run({"--prompts", put("prompts", text), "-c", "64"});
    EXPECT_EQ(r.exit_code, 2) << r.err;  // one was too long
    EXPECT_NE(r.err.find("1 of 3 prompts"), std::string::npos) << r.err;
    std::istringstream lines(r.out);
    std::vector<Json> all;
    for (std::string line; std::getline(lines, line);) all.push_back(parse_json(line, "line"));
    ASSERT_EQ(all.size(), 3u);
    EXPECT_EQ(all[0]["prompt"], "the cat");
    EXPECT_EQ(all[1]["error"]["kind"], "usage");
    EXPECT_EQ(all[2]["index"], 2);
    // Each is answered as if it were alone.
    const Json alone = parse_json(run({"-p", "the mat", "--json", "-"}).out, "output");
    EXPECT_EQ(all[2]["text"], alone["text"]);
  }
  const std::string messages = R"({"messages": [{"role": "user", "content": "hello"}]})";
  const std::string out = folder_.file("answers.jsonl");
  EXPECT_EQ(run({"--chat", "--prompts", put("m", messages), "--output", out}).exit_code, 0);
  EXPECT_TRUE(parse_json(read_text_file(out, 1 << 20), "line").contains("text"));
  EXPECT_EQ(run({"--prompts", "-"}, "the cat\nthe mat\n").exit_code, 0);
  EXPECT_EQ(run({"--prompts", put("empty", "\n\n")}).exit_code, 2);
  EXPECT_EQ(run({"--prompts", put("bad", "{\"text\": 1}\n")}).exit_code, 3);
  EXPECT_EQ(run({"--output", out, "-p", "a"}).exit_code, 2);
}

TEST_F(RunPrompts, may_ask_for_no_tokens_and_for_all_that_fit) {
  const auto length = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"-p", "the", "--ignore-eos", "-c", "20", "--json", "-"});
    return parse_json(run(more).out, "output");
  };
  EXPECT_EQ(length({"-n", "0"})["generated_tokens"], 0);
  const Json all = length({"-n", "-1"});
  EXPECT_EQ(all["finish"], "context");
  EXPECT_GT(all["generated_tokens"].get<int>(), 10);
}

TEST_F(RunPrompts, a_seed_of_minus_one_is_another_each_time_and_said) {
  const auto once = [&] {
    const auto r = run({"-p", "the", "--seed", "-1", "--temp", "1", "--json", "-"});
    EXPECT_EQ(r.exit_code, 0) << r.err;
    return parse_json(r.out, "output");
  };
  const Json first = once();
  EXPECT_NE(first["seed"], once()["seed"]);
  const auto again = run({"-p", "the", "--seed", std::to_string(first["seed"].get<uint64_t>()),
                          "--temp", "1", "--json", "-"});
  EXPECT_EQ(parse_json(again.out, "output")["text"], first["text"]);
}

}  // namespace
}  // namespace pith
