// Wrong inputs that evaluations accepted silently, or refused too late.

#include <gtest/gtest.h>

#include <filesystem>

#include "core/file.h"
#include "core/json.h"
#include "tests/support/process.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

class EvaluationFaults : public testing::Test {
 protected:
  EvaluationFaults() {
    make_model("in", 640);
    std::string text;
    for (int i = 0; i < 12; ++i) text += "the cat sat on the mat and the dog ran.\n\nso it was.\n";
    text_ = file("text", text);
  }
  std::string make_model(const std::string& name, int vocab) {
    test::write_tiny_checkpoint(folder_.file(name), test::tiny_config({.vocab = vocab}),
                                DType::kF32);
    std::filesystem::copy_file(test::fixture("golden/tokenizers/llama2_style.json"),
                               folder_.file(name + "/tokenizer.json"));
    return folder_.file(name);
  }
  std::string file(const std::string& name, const std::string& bytes) {
    write_file(folder_.file(name), std::as_bytes(std::span(bytes)));
    return folder_.file(name);
  }
  std::string in() const { return folder_.file("in"); }
  static test::ProcessResult run(std::vector<std::string> arguments,
                                 const std::string& input = "") {
    arguments.insert(arguments.begin(), PITH_PROGRAM);
    return test::run_process(arguments, {}, input);
  }
  void expect(const test::ProcessResult& r, int exit_code, const std::string& message) {
    EXPECT_EQ(r.exit_code, exit_code) << r.err;
    EXPECT_NE(r.err.find(message), std::string::npos) << r.err << "\n should contain " << message;
  }

  const test::TemporaryFolder folder_;
  std::string text_;
};

TEST_F(EvaluationFaults, text_that_is_not_utf8_is_refused) {
  std::string utf16;
  for (const char c : std::string("Once upon a time")) utf16 += {c, '\0'};
  for (const auto& [bytes, message] : {std::pair<std::string, const char*>{utf16, "UTF-16"},
                                       {"\xff\xfe" + utf16, "UTF-16"},
                                       {"caf\xe9 noir", "Latin-1"},
                                       {std::string("\x7f"
                                                    "ELF\0\0\1",
                                                    7),
                                        "no text"}}) {
    const std::string bad = file("bad", bytes);
    expect(run({"eval", "ppl", in(), "-f", bad}), 3, message);
    expect(run({"eval", "kl", in(), "--base", in(), "-f", bad}), 3, message);
    expect(run({"eval", "choice", in(), "-f", bad}), 3, message);
    expect(run({"compare", in(), "--types", "w4", "-f", bad}), 3, message);
    expect(run({"tokenize", in(), "-f", bad}), 3, message);
  }
}

TEST_F(EvaluationFaults, results_that_cannot_be_written_are_known_before_the_work) {
  const std::string tasks =
      file("tasks", R"({"prompt": "the", "choices": [" cat", " mat"], "answer": 0})");
  const std::vector<std::vector<std::string>> commands = {
      {"eval", "ppl", in(), "-f", text_},    {"eval", "kl", in(), "--base", in(), "-f", text_},
      {"eval", "choice", in(), "-f", tasks}, {"compare", in(), "--types", "w4", "-f", text_},
      {"tokenize", in(), "-p", "the cat"},   {"inspect", in()},
      {"run", in(), "-p", "the", "-n", "2"}};
  for (auto c : commands) {
    c.insert(c.end(), {"--json", folder_.file("none/r.json")});
    const auto r = run(c);
    expect(r, 4, "none");
    EXPECT_EQ(r.out, "") << c[0];
  }
  for (const char* option : {"--resume", "--save-logits"}) {
    expect(run({"eval", "ppl", in(), "-f", text_, option, folder_.file("none/x")}), 4, "none");
    expect(run({"eval", "kl", in(), "--base", in(), "-f", text_, option, folder_.file("none/x")}),
           4, "none");
  }
  expect(run({"compare", in(), "--types", "w4", "-f", text_, "-o", folder_.file("none/x.html")}), 4,
         "none");
}

TEST_F(EvaluationFaults, every_input_is_named_before_the_model_is_loaded) {
  expect(run({"eval", "ppl", in(), "-f", folder_.file("none")}), 4, "none: cannot open");
  expect(run({"eval", "ppl", in(), "-f", file("blank", " \n\n")}), 2, "no text");
  expect(run({"eval", "kl", in(), "--base", make_model("other", 648), "-f", text_}), 2,
         "vocabularies of 648 and 640 tokens");
  // As many tokens, but others.
  const std::string shuffled = make_model("shuffled", 640);
  std::filesystem::copy_file(test::fixture("golden/tokenizers/bpe_unk.json"),
                             shuffled + "/tokenizer.json",
                             std::filesystem::copy_options::overwrite_existing);
  const auto r = run({"eval", "kl", shuffled, "--base", in(), "-f", text_});
  EXPECT_NE(r.err.find("vocabulary"), std::string::npos) << r.err;
}

TEST_F(EvaluationFaults, base_and_model_exchanged_is_noticed) {
  ASSERT_EQ(
      run({"quantize", in(), folder_.file("w4.pith"), "w4", "--method", "rtn", "-q"}).exit_code, 0);
  const auto right =
      run({"eval", "kl", folder_.file("w4.pith"), "--base", in(), "-f", text_, "-q"});
  EXPECT_EQ(right.exit_code, 0) << right.err;
  EXPECT_EQ(right.err.find("exchanged"), std::string::npos) << right.err;
  expect(run({"eval", "kl", in(), "--base", folder_.file("w4.pith"), "-f", text_, "-q"}), 0,
         "exchanged");
}

TEST_F(EvaluationFaults, text_is_taken_as_it_is_where_no_protocol_is_named) {
  const auto r = run({"eval", "ppl", in(), "-f", text_, "-q", "--json", "-"});
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const Json j = parse_json(r.out, "ppl");
  EXPECT_EQ(j["protocol"], "text-128");  // the model's context
  // Every token but the first: this tokenizer adds no BOS.
  const auto ids = run({"tokenize", in(), "-f", text_, "--plain", "--count"});
  EXPECT_EQ(std::to_string(j["tokens"].get<int64_t>() + 1) + "\n", ids.out);
  const auto rows = run({"eval", "ppl", in(), "-f", text_, "-q", "--protocol", "gptq-32"});
  EXPECT_NE(rows.out.find("joined by blank lines"), std::string::npos) << rows.out;
  EXPECT_NE(rows.err.find("warning"), std::string::npos) << rows.err;
  const auto wiki = run({"eval", "ppl", in(), "-f",
                         file("wiki", " \n = Cat = \n \n" + read_text_file(text_, 1 << 20)), "-q",
                         "--protocol", "gptq-32"});
  EXPECT_EQ(wiki.err.find("WikiText"), std::string::npos) << wiki.err;
  EXPECT_EQ(run({"eval", "ppl", in(), "-f", text_, "-q", "--stride", "16"}).exit_code, 0);
  expect(run({"eval", "ppl", in(), "-f", text_, "--stride", "128"}), 2, "at most 127");
  expect(run({"eval", "ppl", in(), "-f", text_, "--stride", "8", "--protocol", "llama-32"}), 2,
         "--stride");
}

// A result without what the program says of this run.
Json figures(const std::string& out) {
  Json j = parse_json(out, "output");
  j.erase("program");
  return j;
}

TEST_F(EvaluationFaults, text_by_a_pipe_is_that_of_the_file) {
  const auto of_file = run({"eval", "ppl", in(), "-f", text_, "-q", "--json", "-"});
  const auto of_pipe = test::run_process(
      {"/bin/sh", "-c",
       "cat " + text_ + " | " + PITH_PROGRAM + " eval ppl " + in() + " -f - -q --json -"});
  EXPECT_EQ(of_pipe.exit_code, 0) << of_pipe.err;
  EXPECT_EQ(figures(of_pipe.out), figures(of_file.out));
  const auto packed = test::run_process({"/bin/sh", "-c",
                                         "gzip -c " + text_ + " | " + PITH_PROGRAM + " eval ppl " +
                                             in() + " -f /dev/stdin -q --json -"});
  EXPECT_EQ(figures(packed.out), figures(of_file.out)) << packed.err;
}

TEST_F(EvaluationFaults, stored_logits_stand_for_the_base) {
  ASSERT_EQ(
      run({"quantize", in(), folder_.file("w4.pith"), "w4", "--method", "rtn", "-q"}).exit_code, 0);
  const std::string model = folder_.file("w4.pith"), stored = folder_.file("base.logits");
  const auto direct = run({"eval", "kl", model, in(), "--base", in(), "-f", text_, "-q",
                           "--protocol", "text-32", "--save-base", stored, "--json", "-"});
  ASSERT_EQ(direct.exit_code, 0) << direct.err;
  const auto later =
      run({"eval", "kl", model, in(), "--base", stored, "-f", text_, "-q", "--json", "-"});
  ASSERT_EQ(later.exit_code, 0) << later.err;
  const Json a = parse_json(direct.out, "direct"), b = parse_json(later.out, "later");
  EXPECT_EQ(b["protocol"], "text-32");
  ASSERT_EQ(b["models"].size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_NEAR(a["models"][i]["kl_mean"].get<double>(), b["models"][i]["kl_mean"].get<double>(),
                1e-5);
    EXPECT_EQ(a["models"][i]["perplexity"], b["models"][i]["perplexity"]);
  }
  EXPECT_EQ(a["kl_mean"], a["models"][0]["kl_mean"]);
  expect(run({"eval", "kl", model, "--base", stored, "-f", file("t2", "the dog sat on a mat")}), 2,
         "another text");
  expect(run({"eval", "kl", model, "--base", stored, "-f", text_, "--protocol", "text-16"}), 2,
         "of \"text-32\", not of");
  expect(run({"eval", "kl", make_model("other", 648), "--base", stored, "-f", text_}), 2, "648");
}

TEST_F(EvaluationFaults, a_finished_evaluation_leaves_no_file_to_go_on_from) {
  const std::string state = folder_.file("state");
  const auto r = run({"eval", "ppl", in(), "-f", text_, "-q", "--resume", state});
  EXPECT_EQ(r.exit_code, 0) << r.err;
  EXPECT_FALSE(file_exists(state));
  const std::string foreign = file("foreign", "not a table");
  expect(run({"eval", "ppl", in(), "-f", text_, "--resume", foreign}), 3, "not the file of");
}

TEST_F(EvaluationFaults, an_empty_file_to_go_on_from_is_nothing_done) {
  const std::string state = file("state", "");
  EXPECT_EQ(run({"eval", "ppl", in(), "-f", text_, "-q", "--resume", state}).exit_code, 0);
}

TEST_F(EvaluationFaults, figures_of_few_tokens_come_with_a_warning) {
  const auto few = run({"eval", "ppl", in(), "-f", text_, "-q", "--max-windows", "1"});
  expect(few, 0, "tokens scored: perplexity ");
  EXPECT_NE(few.out.find("1 window,"), std::string::npos) << few.out;
  std::string text;
  for (int i = 0; i < 60; ++i) text += read_text_file(text_, 1 << 20);
  const auto many = run({"eval", "ppl", in(), "-f", file("long", text), "-q"});
  EXPECT_EQ(many.err, "");
  const std::string tasks =
      file("tasks", R"({"query": "the", "choices": [" cat", " mat"], "gold": 0})");
  expect(run({"eval", "choice", in(), "-f", tasks}), 0,
         "1 task, read as lm-eval because of query in the first");
}

TEST_F(EvaluationFaults, compare_makes_one_table_of_types_and_files) {
  ASSERT_EQ(run({"quantize", in(), folder_.file("own.pith"), "w8", "-q"}).exit_code, 0);
  const std::string page = folder_.file("table.html");
  const auto r = run({"compare", in(), folder_.file("own.pith"), "--types", "w4,w3", "-f", text_,
                      "-q", "-o", page, "--json", "-"});
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const Json j = parse_json(r.out, "compare");
  ASSERT_EQ(j["models"].size(), 4u);
  std::vector<std::string> names;
  for (const auto& m : j["models"]) names.push_back(m["name"]);
  EXPECT_EQ(names, (std::vector<std::string>{"base", "w4", "w3", "own.pith"}));
  EXPECT_TRUE(j["models"][0]["kl_mean"].is_null());
  EXPECT_GT(j["models"][2]["kl_mean"], j["models"][1]["kl_mean"]);
  EXPECT_GT(j["models"][1]["decode_tokens_per_s"].get<double>(), 0);
  EXPECT_NE(read_text_file(page, 1 << 20).find("<svg"), std::string::npos);
  // The same figure as that of `eval kl`.
  const auto kl = run({"eval", "kl", folder_.file("own.pith"), "--base", in(), "-f", text_, "-q",
                       "--no-noise-floor", "--json", "-"});
  EXPECT_EQ(parse_json(kl.out, "kl")["kl_mean"], j["models"][3]["kl_mean"]);
  // Types in the place of files, and every format.
  const std::vector<std::string> few = {"compare", in(),  "--types",    "w8", "w4",
                                        "-f",      text_, "--no-speed", "-q", "--format"};
  for (const auto& [format, begin] : {std::pair<const char*, const char*>{"table", "  "},
                                      {"md", "|  | MB |"},
                                      {"csv", "name,file,"},
                                      {"html", "<!doctype html>"},
                                      {"json", "{"}}) {
    auto c = few;
    c.emplace_back(format);
    const auto made = run(c);
    EXPECT_EQ(made.exit_code, 0) << made.err;
    EXPECT_EQ(made.out.rfind(begin, 0), 0u) << made.out;
    EXPECT_NE(made.out.find("w8"), std::string::npos);
    EXPECT_NE(made.out.find("w4"), std::string::npos);
  }
  expect(run({"compare", in(), "--types", "w4,q9", "-f", text_}), 2, "q9");
  expect(run({"compare", in(), folder_.file("none.pith"), "-f", text_}), 4, "none.pith");
}

TEST_F(EvaluationFaults, tokenize_shows_what_a_text_becomes) {
  const auto ids = run({"tokenize", in(), "-p", "the cat", "--ids"});
  EXPECT_EQ(ids.exit_code, 0) << ids.err;
  const auto piped = run({"tokenize", in(), "-f", file("t", "the cat"), "--ids"});
  EXPECT_EQ(piped.out, ids.out);
  const auto alone = run({"tokenize", in() + "/tokenizer.json", "-p", "the cat", "--ids"});
  EXPECT_EQ(alone.out, ids.out) << alone.err;
  const auto json = run({"tokenize", in(), "-p", "the cat", "--json", "-"});
  const Json j = parse_json(json.out, "tokens");
  EXPECT_EQ(j["count"].get<size_t>(), j["ids"].size());
  EXPECT_EQ(run({"tokenize", in(), "-p", "the cat", "--count"}).out,
            std::to_string(j["ids"].size()) + "\n");
  // A special token's text is text, unless said otherwise.
  EXPECT_EQ(run({"tokenize", in(), "-p", "</s>", "--special", "--plain", "--ids"}).out, "2\n");
  EXPECT_NE(run({"tokenize", in(), "-p", "</s>", "--plain", "--ids"}).out, "2\n");
  expect(run({"tokenize", in()}), 2, "-p TEXT");
}

}  // namespace
}  // namespace pith
