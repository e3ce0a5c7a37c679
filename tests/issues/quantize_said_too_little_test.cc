// What quantize, compare and inspect did not say, or let pass: seeds that were lost, side outputs
// in the work folder, dry runs that measured, patterns that are none, tables wider than the
// terminal.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include "core/json.h"
#include "tests/support/quantize_program.h"
#include "tools/comparison.h"

namespace pith {
namespace {

using testing::HasSubstr;
using testing::Not;

class QuantizeSays : public test::QuantizeProgram {
 protected:
  // A run that is killed while the model writes its text, or later.
  void interrupted(const Arguments& more) const {
    Arguments command = {PITH_PROGRAM, "quantize", in(), out()};
    command.insert(command.end(), more.begin(), more.end());
    test::Process p(command);
    const auto text_bytes = [&] {
      std::error_code missing;
      const auto size = std::filesystem::file_size(out() + ".work/text", missing);
      return missing ? 0 : size;
    };
    while (p.running() && text_bytes() < 9000)  // one whole piece
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    p.signal(SIGKILL);
    p.wait();
  }
};

TEST_F(QuantizeSays, a_random_seed_is_taken_again_where_the_run_goes_on) {
  const Arguments command = {
      "w4", "--method", "gptq",   "--nsamples", "128",    "--seqlen",       "64",
      "-t", "1",        "--seed", "-1",         "--json", folder_.file("j")};
  interrupted(command);
  ASSERT_TRUE(file_exists(out() + ".work/text")) << "it was over too soon";
  const auto r = quantize(command);
  ASSERT_EQ(r.exit_code, 0) << r.err;
  EXPECT_THAT(r.err, HasSubstr("as the interrupted run has it"));
  const Json j = parse_json(read_text_file(folder_.file("j"), 1 << 20), "j");
  const auto seed = std::to_string(j["seed"].get<uint64_t>());
  EXPECT_THAT(r.err, HasSubstr("seed " + seed));
  // The same bytes as without the interruption.
  const auto expected = read_file(out(), 1 << 26);
  Arguments undisturbed = command;
  undisturbed[10] = seed;
  ASSERT_EQ(quantize(undisturbed).exit_code, 0);
  EXPECT_TRUE(read_file(out(), 1 << 26) == expected);
  // And another one next time.
  ASSERT_EQ(quantize({"w4", "--seed", "-1", "-q", "--json", folder_.file("k")}).exit_code, 0);
  const Json k = parse_json(read_text_file(folder_.file("k"), 1 << 20), "k");
  EXPECT_NE(k["seed"], j["seed"]);
}

TEST_F(QuantizeSays, text_of_an_abandoned_run_is_not_discarded_in_silence) {
  interrupted({"w4", "--target-bpw", "4", "--nsamples", "128", "--seqlen", "64", "-t", "1"});
  ASSERT_TRUE(file_exists(out() + ".work/text")) << "it was over too soon";
  const auto r = quantize({"w4", "--method", "rtn"});
  EXPECT_EQ(r.exit_code, 0) << r.err;
  EXPECT_THAT(r.err, HasSubstr("calibration text of an earlier run ("));
  EXPECT_THAT(r.err, HasSubstr("is discarded when this one is done"));
}

TEST_F(QuantizeSays, side_outputs_in_the_work_folder_are_refused) {
  std::filesystem::create_directory(folder_.file("sub"));
  const struct {
    const char* option;
    std::string path, says;
  } cases[] = {
      {"--json", out() + ".work", "keeps its work on"},
      {"--json", out() + ".work/journal", "keeps its work on"},
      {"--json", folder_.file("sub/../out.pith.work/x"), "keeps its work on"},
      {"--costs", out() + ".work/costs", "keeps its work on"},
      {"--plan-out", out() + ".work", "keeps its work on"},
      {"--plan-out", folder_.file("./out.pith"), "is the output as well"},
      {"--costs", folder_.file("sub/../out.pith"), "is the output as well"},
      {"--costs", text_file(), "another file of this command"},
  };
  for (const auto& c : cases) {
    const auto r = quantize({"w4", "--target-bpw", "4", "--calib", text_file(), c.option, c.path});
    EXPECT_EQ(r.exit_code, 2) << c.path << r.err;
    EXPECT_THAT(r.err, HasSubstr(c.says)) << c.path;
    EXPECT_FALSE(file_exists(out() + ".work")) << c.path;
  }
}

TEST_F(QuantizeSays, side_outputs_that_are_a_compared_file_are_refused) {
  const std::string keep = folder_.file("keep");
  std::filesystem::create_directory(keep);
  for (const char* name : {"w8.pith", "./w8.pith", "w8.pith.work/x"}) {
    const auto r = pith({"compare", in(), "-f", text_file(), "--types", "w8", "--keep", keep,
                         "--json", keep + "/" + name, "--max-windows", "1"});
    EXPECT_NE(r.exit_code, 0) << name;
    EXPECT_TRUE(std::filesystem::is_empty(keep)) << name << r.err;
  }
}

TEST_F(QuantizeSays, names_with_line_feeds_stay_on_one_line) {
  const std::string strange = folder_.file("o\nut\x1b[1m.pith");
  const auto done = pith({"quantize", in(), strange, "w4"});
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_THAT(done.out, HasSubstr("o\\nut\\x1b[1m.pith"));
  EXPECT_THAT(done.out + done.err, Not(HasSubstr("o\nut")));
  const auto again = pith({"quantize", in(), strange, "w4"});
  EXPECT_THAT(again.out + again.err, Not(HasSubstr("o\nut")));
  std::filesystem::create_directory(strange + ".work");
  write_file(strange + ".work/mine", {});
  const auto refused = pith({"quantize", in(), strange, "w4"});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.out + refused.err, Not(HasSubstr("o\nut")));
  const auto missing = pith({"inspect", folder_.file("no\nsuch")});
  EXPECT_THAT(missing.err, Not(HasSubstr("no\nsuch")));
}

TEST_F(QuantizeSays, a_foreign_entry_in_the_work_folder_is_named_and_stays) {
  ASSERT_EQ(quantize({"w8", "-q"}).exit_code, 0);
  std::filesystem::create_directory(out() + ".work");
  write_file(out() + ".work/journal", as_bytes("PITHLOG1"));
  write_file(out() + ".work/notes", as_bytes("mine"));
  const auto r = quantize({"w4"});
  EXPECT_EQ(r.exit_code, 0) << r.err;
  EXPECT_THAT(r.err, HasSubstr("\"notes\" is not pith's, so"));
  EXPECT_EQ(read_text_file(out() + ".work/notes", 100), "mine");
}

TEST_F(QuantizeSays, empty_words_are_usage_errors_that_name_the_option) {
  const struct {
    Arguments arguments;
    const char* says;
  } cases[] = {
      {{"quantize", in(), ""}, "OUT is \"\""},
      {{"quantize", "", out()}, "IN is \"\""},
      {{"inspect", ""}, "MODEL is \"\""},
      {{"quantize", in(), out(), "--json", ""}, "--json needs a value"},
      {{"quantize", in(), out(), "--json="}, "--json needs a value"},
      {{"quantize", in(), out(), "--calib", ""}, "--calib needs a value"},
      {{"quantize", in(), out(), "--target-size", ""}, "--target-size needs a value"},
      {{"quantize", in(), out(), "--tokenizer", ""}, "--tokenizer needs a value"},
      {{"quantize", in(), out(), "--ignore", ""}, "--ignore needs a value"},
      {{"quantize", in(), out(), "-g", ""}, "-g needs a value"},
      {{"compare", in(), "-f", text_file(), "-o", ""}, "-o needs a value"},
      {{"eval", "ppl", in(), "-f", ""}, "-f needs a value"},
  };
  for (const auto& c : cases) {
    const auto r = pith(c.arguments);
    EXPECT_EQ(r.exit_code, 2) << c.says << r.err;
    EXPECT_THAT(r.err, HasSubstr(c.says));
  }
  EXPECT_EQ(pith({"run", in(), "-p", "", "-n", "1", "-q"}).exit_code, 0);
}

TEST_F(QuantizeSays, a_dry_run_measures_nothing_and_says_what_would_be_measured) {
  for (const char* calibration : {"self", "file"}) {
    Arguments command = {"w4", "--target-bpw", "4.5", "--dry-run", "--json", folder_.file("j")};
    if (std::string(calibration) == "file")
      command.insert(command.end(), {"--calib", text_file(), "--nsamples", "4", "--seqlen", "32"});
    const auto r = quantize(command);
    ASSERT_EQ(r.exit_code, 0) << r.err;
    EXPECT_THAT(r.out, HasSubstr("types chosen for at most 4.5 bits per weight"));
    EXPECT_THAT(r.out, HasSubstr("would measure 10 groups of layers in 9 types"));
    EXPECT_THAT(r.out, Not(HasSubstr("int4-g64-asym")));
    EXPECT_THAT(r.err, Not(HasSubstr("measuring choices")));
    EXPECT_FALSE(file_exists(out() + ".work"));
    const Json j = parse_json(read_text_file(folder_.file("j"), 1 << 20), "j");
    EXPECT_EQ(j["type"], "mixed");
    EXPECT_EQ(j["would_measure"]["groups"], 10);
  }
  // With the costs at hand it shows the choice.
  const Arguments with_costs = {
      "w4", "--target-bpw", "4.5", "--calib", text_file(),          "--nsamples",
      "4",  "--seqlen",     "32",  "--costs", folder_.file("costs")};
  const auto made = quantize(with_costs);
  ASSERT_EQ(made.exit_code, 0) << made.err;
  EXPECT_EQ(made.out.find("int"), made.out.find("int", made.out.find("\n")));  // not before
  Arguments dry = with_costs;
  dry.push_back("--dry-run");
  const auto shown = quantize(dry);
  ASSERT_EQ(shown.exit_code, 0) << shown.err;
  EXPECT_THAT(shown.out, HasSubstr("layers.0.mlp.down="));
  EXPECT_THAT(shown.out, Not(HasSubstr("would measure")));
}

TEST_F(QuantizeSays, a_target_above_the_largest_choice_is_said_and_nothing_is_measured) {
  for (const Arguments& target : {Arguments{"--target-size", "1G"}, {"--target-bpw", "16"}}) {
    Arguments command = {"w4", "--candidates", "w4", "--candidates", "w6"};
    command.insert(command.end(), target.begin(), target.end());
    const auto r = quantize(command);
    ASSERT_EQ(r.exit_code, 0) << r.err;
    EXPECT_THAT(r.err, HasSubstr("the target is larger than the largest choice"));
    EXPECT_THAT(r.err, HasSubstr("all layers take it"));
    EXPECT_THAT(r.err, Not(HasSubstr("measuring choices")));
    EXPECT_THAT(r.out, HasSubstr("layers.0.mlp.down=int6-g64-asym"));
  }
}

TEST_F(QuantizeSays, the_time_is_all_of_it_and_the_last_line_says_how_to_measure) {
  const auto r = quantize({"w4", "--method", "gptq", "--nsamples", "32", "--seqlen", "64", "--json",
                           folder_.file("j")});
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const Json j = parse_json(read_text_file(folder_.file("j"), 1 << 20), "j");
  double sum = 0;
  for (const auto& [name, s] : j["seconds_by_phase"].items()) sum += s.get<double>();
  EXPECT_GT(j["seconds_by_phase"]["writing text"].get<double>(), 0);
  EXPECT_GE(j["seconds"].get<double>(), sum - 1e-6);
  const std::string hint = "pith eval kl " + out() + " --base " + in() + " --text ";
  ASSERT_THAT(r.out, HasSubstr(hint + "FILE\n"));
  EXPECT_EQ(r.out.find(hint), r.out.rfind(hint));
  // It is a command.
  const auto eval = pith(
      {"eval", "kl", out(), "--base", in(), "--text", text_file(), "--max-windows", "1", "-q"});
  EXPECT_EQ(eval.exit_code, 0) << eval.err;
  EXPECT_THAT(eval.out, HasSubstr("; 1 window,"));
}

TEST_F(QuantizeSays, patterns_that_are_none_are_usage_errors_with_the_option) {
  write_file(folder_.file("types"),
             as_bytes("\xef\xbb\xbf# comment\r\ndown=w8\r\n\r\nre:(=w8\r\n"));
  const struct {
    Arguments arguments;
    std::string says;
  } cases[] = {
      {{"--ignore", "re:("}, "--ignore re:(: "},
      {{"--tensor-type", "re:[=w8"}, "--tensor-type re:[: "},
      {{"--tensor-type", "down=q9"}, "--tensor-type down=q9: "},
      {{"--tensor-type-file", folder_.file("types")}, "types, line 4: re:(: "},
  };
  for (const auto& c : cases) {
    const auto r = quantize(c.arguments);
    EXPECT_EQ(r.exit_code, 2) << c.says << r.err;
    EXPECT_THAT(r.err, HasSubstr(c.says));
  }
  EXPECT_THAT(quantize({"--ignore", "re:("}).err, HasSubstr("at byte"));
  write_file(folder_.file("types"), as_bytes("\xef\xbb\xbf"
                                             "down=w8\r\n \r\n# c\r\nup=w6  \r\n"));
  const auto r = quantize({"w4", "--tensor-type-file", folder_.file("types"), "--dry-run"});
  EXPECT_EQ(r.exit_code, 0) << r.err;
  EXPECT_EQ(r.err, "");
  EXPECT_THAT(r.out, HasSubstr("int8-g64"));
  EXPECT_THAT(r.out, HasSubstr("int6-g64-asym"));
}

TEST_F(QuantizeSays, no_windows_are_refused_and_minus_one_means_all) {
  for (const char* option : {"--chunks", "--max-windows"}) {
    const auto none = pith({"eval", "ppl", in(), "-f", text_file(), option, "0"});
    EXPECT_EQ(none.exit_code, 2) << none.out;
    EXPECT_THAT(none.err, HasSubstr("0: must be 1 or more, or -1 for all"));
    EXPECT_EQ(pith({"eval", "ppl", in(), "-f", text_file(), option, "-2"}).exit_code, 2);
  }
  const auto all = pith({"eval", "ppl", in(), "-f", text_file(), "-q"});
  EXPECT_EQ(pith({"eval", "ppl", in(), "-f", text_file(), "-q", "--chunks", "-1"}).out, all.out);
}

TEST_F(QuantizeSays, inspect_says_what_it_did_not_check) {
  ASSERT_EQ(quantize({"w4", "-q"}).exit_code, 0);
  const auto whole = pith({"inspect", out()});
  EXPECT_EQ(whole.exit_code, 0);
  EXPECT_THAT(whole.out, HasSubstr("weights: not checked (pith verify " + out() + ")"));
  EXPECT_THAT(pith({"inspect", in()}).out, Not(HasSubstr("checksums")));
  const auto bytes = read_file(out(), 1 << 26);
  write_file(out(), std::span(bytes).first(bytes.size() - 1));
  const auto cut = pith({"inspect", out()});
  EXPECT_EQ(cut.exit_code, 3);
  EXPECT_THAT(cut.err, HasSubstr("cut off: it has " + std::to_string(bytes.size() - 1) + " of " +
                                 std::to_string(bytes.size()) + " bytes"));
}

TEST(CompareTable, fits_the_terminal) {
  tools::Comparison c{.base = "base",
                      .protocol = "text-512",
                      .summary = "the text as it is",
                      .text = "a/text.txt",
                      .method = "rtn",
                      .tokens = 1000,
                      .models = {}};
  for (const char* name : {"base", "w8", "SmolLM2-135M-Instruct-w4-gptq-from-a-long-text.pith",
                           "\xc3\xa4\xc3\xb6\xc3\xbc-und-ein-langer-Name-mit-Umlauten-w3.pith"}) {
    tools::ComparedModel m;
    m.name = name;
    m.file_bytes = 1234567890;
    m.bits = 4.31;
    m.perplexity = 12345.678;
    m.kl = 0.1234;
    m.kl_error = 0.0012;
    m.same_top = 0.987;
    m.tokens_per_second = 123.4;
    c.models.push_back(m);
  }
  const auto widest = [](const std::string& text) {
    int64_t most = 0, here = 0;
    for (const char ch : text) {
      here = ch == '\n' ? 0 : here + ((ch & 0xc0) != 0x80);
      most = std::max(most, here);
    }
    return most;
  };
  for (const int width : {20, 30, 40, 50, 60, 70, 80, 90, 100, 120, 200}) {
    const std::string table = tools::render(c, "table", width);
    EXPECT_LE(widest(table), std::max(width, 30)) << table;
    EXPECT_THAT(table, HasSubstr("1234.6")) << width;
    EXPECT_THAT(table, HasSubstr("0.1234")) << width;
  }
  EXPECT_THAT(tools::render(c, "table", 60), HasSubstr("..")) << "names are shortened";
  const std::string wide = tools::render(c, "table");
  for (const auto& m : c.models) EXPECT_THAT(wide, HasSubstr(m.name));
  EXPECT_THAT(wide, HasSubstr("bits/weight"));
  EXPECT_THAT(tools::render(c, "md", 20), HasSubstr(c.models[2].name));
}

TEST_F(QuantizeSays, compare_asks_for_the_width) {
  const Arguments command = {"compare",       in(), "-f",        text_file(), "--types", "w8", "-q",
                             "--max-windows", "1",  "--no-speed"};
  for (const int width : {60, 80}) {
    const auto r = pith(command, {"COLUMNS=" + std::to_string(width)});
    ASSERT_EQ(r.exit_code, 0) << r.err;
    for (size_t at = 0, end; at < r.out.size(); at = end + 1) {
      end = std::min(r.out.find('\n', at), r.out.size());
      EXPECT_LE(end - at, static_cast<size_t>(width)) << r.out;
    }
  }
  EXPECT_EQ(pith({"quantize", "--help"}).out.find("needs --calib"), std::string::npos);
}

}  // namespace
}  // namespace pith
