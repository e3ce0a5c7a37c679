// Texts of several kinds and domains, for calibration and for evaluation.

#include "tools/calibration_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "core/json.h"
#include "formats/tokenizer/tokenizer.h"
#include "runtime/compress/builtin_text.h"
#include "runtime/compress/openings.h"
#include "tests/support/quantize_program.h"
#include "tools/input_text.h"

namespace pith::tools {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kTemplate =
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    "<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant: {% endif %}";

class CalibrationText : public test::QuantizeProgram {
 protected:
  explicit CalibrationText(bool has_template = true) {
    if (has_template) put("in/tokenizer_config.json", Json{{"chat_template", kTemplate}}.dump());
    source_ = open_model(in());
    tokenizer_ = load_tokenizer(*source_);
  }
  std::string put(const std::string& name, const std::string& text) const {
    write_file(folder_.file(name), as_bytes(text));
    return folder_.file(name);
  }
  std::vector<int32_t> tokens(const std::string& name, const std::string& text) const {
    return tokens_of(read_input_text(put(name, text)), *source_, *tokenizer_);
  }
  std::string words(const std::vector<int32_t>& ids) const {
    return tokenizer_->decode(ids, false);
  }
  CompressOptions cut(const std::vector<std::string>& named, int64_t count, int64_t length) const {
    CompressOptions options;
    cut_calibration_text(calibration_inputs(named), *source_, tokenizer_.get(), count, length,
                         &options);
    return options;
  }
  static int64_t windows_of(const CompressOptions& o, int domain) {
    return std::ranges::count(o.domain, domain);
  }
  // "the cat sat ...", some thousand tokens.
  static std::string story(int sentences) {
    std::string text;
    for (int i = 0; i < sentences; ++i) text += "the cat sat on mat " + std::to_string(i) + ". ";
    return text;
  }
  std::string conversations(int n) const {
    std::string lines;
    for (int i = 0; i < n; ++i) {
      lines += Json{{"messages",
                     {{{"role", "user"}, {"content", "the cat " + std::to_string(i)}},
                      {{"role", "assistant"}, {"content", story(2)}}}}}
                   .dump() +
               "\n";
    }
    return put("chat.jsonl", lines);
  }

  std::unique_ptr<ModelSource> source_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

class WithoutTemplate : public CalibrationText {
 protected:
  WithoutTemplate() : CalibrationText(false) {}
};

TEST_F(CalibrationText, conversations_go_through_the_chat_template_in_all_their_forms) {
  const std::string list =
      R"([{"role":"user","content":"hi"},{"role":"assistant","content":"yo"}])";
  const auto wanted = tokens("a.jsonl", list);
  EXPECT_EQ(words(wanted),
            words(tokens("b.jsonl", "\n {\"messages\": " + list + ", \"id\": 7}\r\n\n")));
  EXPECT_THAT(words(wanted), HasSubstr("user: hi"));
  EXPECT_EQ(wanted, tokens("c.jsonl", R"({"conversations":[{"from":"human","value":"hi"},)"
                                      R"({"from":"gpt","value":"yo"}]})"));
  // By content, where the name does not say so: a pipe.
  EXPECT_EQ(wanted, tokens("pipe", list));
  // One conversation after the other.
  auto twice = wanted;
  twice.insert(twice.end(), wanted.begin(), wanted.end());
  EXPECT_EQ(tokens("d.jsonl", list + "\n\n" + list), twice);
  // Special tokens of the template are tokens, those that a message spells are text.
  const int32_t bos = source_->spec().bos_token();
  EXPECT_EQ(std::ranges::count(wanted, bos), 2);
  const auto spelled = tokens("e.jsonl", R"([{"role":"user","content":"<s></s>"}])");
  EXPECT_EQ(std::ranges::count(spelled, bos), 1);
  // Other JSON is text.
  EXPECT_TRUE(read_input_text(put("f.json", "{\"a\": 1}\n")).is_plain());
  EXPECT_TRUE(read_input_text(put("g.txt", "[1, 2]\n")).is_plain());
}

TEST_F(CalibrationText, that_is_wrong_is_named_with_its_line) {
  const std::string good = R"({"messages":[{"role":"user","content":"hi"}]})";
  const struct {
    std::string text;
    const char* says;
  } cases[] = {
      {good + "\n\n{\"messages\": []}\n", "x.jsonl, line 3: expected {\"messages\""},
      {good + "\n{\"text\": \"the cat\"}", "x.jsonl, line 2: expected {\"messages\""},
      {good + "\n{\"messages\": [", "x.jsonl, line 2"},
      {"the cat\n", "x.jsonl, line 1"},
      {R"([{"role":"user"}])", "content"},
      {R"([{"role":"user","content":["a"]}])", "content"},
      {R"({"conversations":[{"from":"bing","value":"a"}]})", "none of human, gpt and system"},
      {good + "\n" + R"([{"role":"tool","content":"x"}])", "x.jsonl, line 2: "},
  };
  for (const auto& c : cases)
    EXPECT_PITH_ERROR(tokens("x.jsonl", c.text), ErrorKind::kCorrupt, c.says);
  EXPECT_PITH_ERROR(tokens("x.jsonl", "\n \n"), ErrorKind::kUsage, "no text in it");
}

TEST_F(WithoutTemplate, conversations_are_refused_and_the_builtin_text_is_plain) {
  EXPECT_PITH_ERROR(tokens("x.jsonl", R"([{"role":"user","content":"hi"}])"), ErrorKind::kUsage,
                    "has no chat template");
  for (const Arguments& command :
       {Arguments{"quantize", in(), out(), "w4", "--calib", conversations(3)},
        {"eval", "ppl", in(), "-f", conversations(3)}}) {
    const auto r = pith(command);
    EXPECT_EQ(r.exit_code, 2);
    EXPECT_THAT(r.err, HasSubstr("has no chat template"));
    EXPECT_FALSE(file_exists(out() + ".work"));
  }
  EXPECT_EQ(cut({"builtin"}, 14, 64).sources.size(), builtin_texts().size());
}

TEST_F(CalibrationText, sources_share_the_windows_by_weight_and_alternate) {
  const std::string a = put("a=1.txt", story(300)), b = conversations(60);
  const auto options = cut({a, b + "=2", "self=1"}, 16, 32);
  ASSERT_EQ(options.sources.size(), 3u);
  EXPECT_EQ(options.sources[0].name, "a=1.txt");  // a file that is there, no weight
  EXPECT_EQ(options.sources[1].name, "chat.jsonl");
  EXPECT_EQ(options.sources[1].weight, 2);
  EXPECT_TRUE(options.sources[2].written);
  EXPECT_EQ(windows_of(options, 0), 4);
  EXPECT_EQ(windows_of(options, 1), 8);
  EXPECT_EQ(windows_of(options, 2), 4);
  const std::vector<int> first(options.domain.begin(), options.domain.begin() + 4);
  EXPECT_THAT(first, testing::UnorderedElementsAre(0, 1, 1, 2));
  const int32_t bos = source_->spec().bos_token();
  for (size_t w = 0; w < options.calibration.size(); ++w) {
    const auto& window = options.calibration[w];
    ASSERT_EQ(window.size(), 32u);
    if (options.domain[w] == 2) continue;  // not written yet
    EXPECT_EQ(window[0], bos);
    EXPECT_NE(window[1], bos);  // not twice where the template writes it
  }
  const auto request = request_of(options, *source_, tokenizer_.get());
  EXPECT_EQ(request.count, 4);
  EXPECT_EQ(request.length, 32);
}

TEST_F(CalibrationText, a_text_that_is_short_leaves_its_windows_to_the_others) {
  const std::string a = put("a.txt", story(8)), b = put("b.txt", story(300));
  const auto options = cut({a + "=4", b}, 16, 32);
  EXPECT_EQ(options.calibration.size(), 16u);
  EXPECT_LT(windows_of(options, 0), 8);
  EXPECT_GT(windows_of(options, 0), 0);
  const auto all = cut({a}, 1000, 32);
  EXPECT_EQ(windows_of(options, 0), std::ssize(all.calibration));
  EXPECT_EQ(all.calibration_hash, all.sources[0].hash);
  EXPECT_PITH_ERROR(cut({put("c.txt", "the cat")}, 4, 512), ErrorKind::kUsage,
                    "one calibration window needs");
}

TEST_F(CalibrationText, what_is_written_comes_into_its_windows) {
  auto options = cut({text_file(), "self"}, 6, 16);
  const uint64_t before = options.calibration_hash;
  const auto request = request_of(options, *source_, tokenizer_.get());
  ASSERT_EQ(request.count, 3);
  Windows text(3, std::vector<int32_t>(16));
  for (int i = 0; i < 3; ++i) text[static_cast<size_t>(i)][1] = 100 + i;
  const auto read = cut({text_file()}, 3, 16);
  put_written_text(text, &options);
  int next = 0, kept = 0;
  for (size_t w = 0; w < 6; ++w) {
    if (options.domain[w] == 1)
      EXPECT_EQ(options.calibration[w][1], 100 + next++);
    else
      EXPECT_EQ(options.calibration[w], read.calibration[static_cast<size_t>(kept++)]);
  }
  EXPECT_NE(options.sources[1].hash, 0u);
  EXPECT_NE(options.calibration_hash, before);
}

TEST_F(CalibrationText, names_and_weights_are_checked) {
  for (const char* wrong : {"self=0", "self=-1", "self=inf", "builtin=nan"})
    EXPECT_PITH_ERROR(calibration_inputs({wrong}), ErrorKind::kUsage, "a number above 0");
  EXPECT_PITH_ERROR(calibration_inputs({"self", "self=2"}), ErrorKind::kUsage, "given twice");
  EXPECT_PITH_ERROR(calibration_inputs({"self", "none"}), ErrorKind::kUsage, "no other text");
  EXPECT_TRUE(calibration_inputs({"none"}).empty());
  EXPECT_EQ(calibration_inputs({"a=b"})[0].name, "a=b");
  EXPECT_EQ(calibration_inputs({"a=b=0.5"})[0].name, "a=b");
  EXPECT_EQ(written_share(calibration_inputs({"self", "x=3"})), 0.25);
}

TEST_F(CalibrationText, openings_are_tokens_that_the_tokenizer_can_write) {
  CompressOptions options = cut({"self"}, 4, 96);
  const auto request = request_of(options, *source_, tokenizer_.get());
  const int32_t bos = source_->spec().bos_token();
  size_t answers = 0;
  for (const auto& opening : request.openings) {
    EXPECT_EQ(opening[0], bos);
    EXPECT_LE(opening.size(), 48u);
    answers += words(opening).find("assistant") != std::string::npos;
  }
  EXPECT_GT(request.openings.size(), 20u);
  EXPECT_GT(answers, 0u);
  EXPECT_TRUE(request_of(options, *source_, nullptr).openings.empty());
}

TEST_F(CalibrationText, of_several_sources_is_in_the_recipe_and_evaluation_on_it_warns) {
  const std::string chat = conversations(40);
  const Arguments command = {"w4",      "--method",  "gptq",    "--calib", text_file(),
                             "--calib", chat + "=2", "--calib", "self",    "--nsamples",
                             "8",       "--seqlen",  "32",      "-q"};
  const auto r = quantize(command);
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const auto packed = open_model(out());
  const std::string recipe = packed->manifest()->provenance().recipe();
  EXPECT_THAT(recipe, HasSubstr("calibration:\n  windows: 8\n  tokens: 32\n  texts:\n"
                                "    - {file: text.txt, weight: 1, windows: 2, hash: "));
  EXPECT_THAT(recipe, HasSubstr("    - {file: chat.jsonl, weight: 2, windows: 4, hash: "));
  EXPECT_THAT(recipe, HasSubstr("    - {source: self, weight: 1, windows: 2"));
  EXPECT_THAT(recipe, Not(HasSubstr("hash: 0000000000000000")));
  for (const std::string& text : {chat, text_file()}) {
    const auto e = pith(
        {"eval", "ppl", out(), "-f", text, "--protocol", "text-64", "-q", "--max-windows", "2"});
    EXPECT_EQ(e.exit_code, 0) << e.err;
    EXPECT_THAT(e.err, HasSubstr("calibrated on")) << text;
  }
  // The same command, the same bytes.
  const auto first = read_text_file(out(), 1 << 24);
  ASSERT_EQ(quantize(command).exit_code, 0);
  EXPECT_EQ(read_text_file(out(), 1 << 24), first);
}

TEST_F(CalibrationText, evaluation_takes_conversations_in_protocol_text_alone) {
  const std::string chat = conversations(20);
  const auto r = pith({"eval", "kl", in(), "--base", in(), "-f", chat, "--protocol", "text-64",
                       "--max-windows", "2", "--no-noise-floor", "-q", "--json", "-"});
  ASSERT_EQ(r.exit_code, 0) << r.err;
  EXPECT_EQ(parse_json(r.out, "kl")["kl_mean"], 0);
  for (const char* protocol : {"gptq-64", "llama-64", "paragraph"}) {
    const auto e = pith({"eval", "ppl", in(), "-f", chat, "--protocol", protocol});
    EXPECT_EQ(e.exit_code, 2) << protocol;
    EXPECT_THAT(e.err, HasSubstr("takes a plain text"));
  }
}

TEST_F(CalibrationText, a_dry_run_neither_writes_nor_measures_whatever_the_sources_are) {
  for (const Arguments& more : {Arguments{"--calib", "self"},
                                {"--calib", "builtin"},
                                {"--calib", text_file(), "--calib", "self"}}) {
    for (const Arguments& target :
         {Arguments{}, {"--target-bpw", "4.5"}, {"--max-kl", "0.1"}, {"--target-size", "1G"}}) {
      Arguments command = {"w4",         "--method", "gptq",     "--dry-run",
                           "--nsamples", "8",        "--seqlen", "32"};
      command.insert(command.end(), more.begin(), more.end());
      command.insert(command.end(), target.begin(), target.end());
      const auto r = quantize(command);
      EXPECT_EQ(r.exit_code, 0) << r.err;
      EXPECT_THAT(r.err, Not(HasSubstr("writing calibration text")));
      EXPECT_THAT(r.err, Not(HasSubstr("measuring choices")));
      EXPECT_FALSE(file_exists(out() + ".work"));
    }
  }
}

TEST(BuiltinText, is_text_of_several_kinds) {
  std::vector<std::string> names;
  for (const auto& t : builtin_texts()) {
    names.emplace_back(t.name);
    EXPECT_GT(t.text.size(), 5000u) << t.name;
    const std::string path = std::string("builtin/") + t.name;
    EXPECT_EQ(parse_input_text(path, std::string(t.text)).is_plain(), !path.ends_with(".jsonl"));
    EXPECT_EQ(t.text, read_text_file(
                          test::fixture("../runtime/compress/builtin_text/" + std::string(t.name)),
                          1 << 20));
  }
  EXPECT_THAT(names, testing::IsSupersetOf({"chat.jsonl", "code.txt", "languages.txt"}));
}

}  // namespace
}  // namespace pith::tools
