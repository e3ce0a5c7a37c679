// Text of strangers that steered the terminal; progress that flooded it.

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/file.h"
#include "core/parallel.h"
#include "tests/support/process.h"
#include "tests/support/tiny_model.h"
#include "tools/command.h"
#include "tools/help.h"
#include "tools/terminal.h"

namespace pith {
namespace {

using tools::ProgressState;

TEST(TerminalText, has_no_control_characters_but_tabs_and_line_ends) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"plain \xc3\xa9\xe2\x82\xac\n\tx", "plain \xc3\xa9\xe2\x82\xac\n\tx"},
      {"\x1b[2J", "\\x1b[2J"},
      {"a\r\nb", "a\nb"},
      {"a\rb", "a\\x0db"},
      {"\a\b\x7f", "\\x07\\x08\\x7f"},
      {std::string("a\0b", 3), "a\\x00b"},
      {"\xc2\x9b"
       "31m",
       "\\xc2\\x9b31m"},  // CSI of eight bits
      {"\xc2\xa0", "\xc2\xa0"},
      {"\x9b"
       "31m\xff",
       "\\x9b31m\\xff"},
      {"\xe2\x82", "\\xe2\\x82"}};
  for (const auto& [text, shown] : cases) EXPECT_EQ(tools::escaped(text), shown);
  EXPECT_EQ(tools::one_line("a\nb\tc"), "a\\nb\\tc");
  for (int c = 1; c < 32; ++c) {
    const std::string shown = tools::one_line(std::string(1, static_cast<char>(c)));
    EXPECT_TRUE(std::ranges::all_of(shown, [](char s) { return s >= 0x20; })) << c;
  }
}

TEST(TerminalText, json_has_none_of_them_and_is_utf_8) {
  const std::string text = "\x1b[2J \xc2\x9b \x7f \xff \n";
  const std::string json = tools::json_text(Json{{"x", text}}, -1);
  for (const char c : json) EXPECT_TRUE((c & 0xff) >= 0x20 && c != 0x7f);
  EXPECT_EQ(json.find("\xc2\x9b"), std::string::npos);
  EXPECT_EQ(parse_json(json, "j")["x"], "\x1b[2J \xc2\x9b \x7f \xef\xbf\xbd \n");
}

TEST(TerminalText, of_a_models_files_is_escaped_by_inspect_and_in_errors) {
  const test::TemporaryFolder folder;
  Json config = parse_json(test::tiny_config({.layers = 1, .vocab = 640}), "config");
  config["_name_or_path"] = "\x1b]0;title\a";
  test::write_tiny_checkpoint(folder.file("m"), config.dump());
  config["model_type"] = "\x1b[2Jllama";
  std::vector<test::ProcessResult> results = {
      test::run_process({PITH_PROGRAM, "inspect", folder.file("m"), "--tensors"}),
      test::run_process({PITH_PROGRAM, "inspect", folder.file("m"), "--json", "-"}),
      test::run_process({PITH_PROGRAM, "inspect", "\x1b[2Jnone"}),
      test::run_process({PITH_PROGRAM, "inspect", "--\x1b[2Jnone"}),
      test::run_process({PITH_PROGRAM, "\x1b[2Jnone"}),
      test::run_process({PITH_PROGRAM, "inspect", "none\xff", "--json", "-"})};
  test::write_tiny_checkpoint(folder.file("n"), test::tiny_config({.layers = 1}));
  const std::string text = config.dump();
  write_file(folder.file("n/config.json"), std::as_bytes(std::span(text)));
  results.push_back(test::run_process({PITH_PROGRAM, "inspect", folder.file("n")}));
  for (const auto& r : results) {
    for (const std::string& stream : {r.out, r.err}) {
      EXPECT_EQ(stream.find_first_of("\x1b\a"), std::string::npos) << stream;
    }
    EXPECT_LE(r.exit_code, 4);
  }
}

TEST(ProgressLine, fits_the_width) {
  ProgressState state{.what = "compressing", .detail = "layers.3.mlp.down  loss 1.2e-03"};
  state.share = 0.42;
  state.elapsed = 75;
  state.left = 3723;
  for (int width = 1; width < 140; ++width)
    EXPECT_LE(tools::progress_line(state, width, true).size(), static_cast<size_t>(width));
  EXPECT_EQ(tools::progress_line(state, 1000, false),
            "compressing  42 % 0:01:15, 1:02:03 left  layers.3.mlp.down  loss 1.2e-03");
  EXPECT_NE(tools::progress_line(state, 80, true).find("[###"), std::string::npos);
  EXPECT_EQ(tools::progress_line(state, 40, true).find("compressing  42 %"), 0u);
  state.what = "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9";
  for (int width = 1; width < 20; ++width) {
    const std::string line = tools::progress_line(state, width, true);
    EXPECT_EQ(tools::escaped(line), line) << "cut inside a character";
  }
}

TEST(ProgressLine, times_are_hours_minutes_and_seconds) {
  EXPECT_EQ(tools::human_time(0), "0:00:00");
  EXPECT_EQ(tools::human_time(2618.4), "0:43:38");
  EXPECT_EQ(tools::human_time(360000), "100:00:00");
}

TEST(ProgressLine, a_log_has_the_first_line_at_once) {
  testing::internal::CaptureStderr();
  {
    tools::TerminalProgress progress(false);
    progress.begin("compressing", 4, 2);
    progress.advance(3, "layers.1");
    progress.end();
    tools::TerminalProgress quiet(true);
    quiet.begin("nothing", 1);
  }
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(text, "compressing  50 % 0:00:00\n");
}

TEST(TerminalText, is_cut_at_words) {
  EXPECT_EQ(tools::wrapped("one two three", 2, 8), "one two\n  three");
  EXPECT_EQ(tools::wrapped("unbreakable", 2, 4), "unbreakable");
  EXPECT_EQ(tools::wrapped("", 2, 4), "");
}

TEST(Threads, are_as_many_as_could_be_started) {
  ThreadPool pool(3);
  EXPECT_LE(pool.threads(), 3);
  EXPECT_GE(pool.threads(), 1);
}

}  // namespace
}  // namespace pith
