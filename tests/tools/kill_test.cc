// kill -9 at any moment, run again: the same bytes as without.

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "tests/support/process.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

using Clock = std::chrono::steady_clock;

class Kill : public testing::TestWithParam<std::string> {  // the method, or "" for no calibration
 protected:
  Kill() {
    test::write_tiny_checkpoint(
        folder_.file("in"),
        test::tiny_config({.hidden = 128, .ffn = 336, .layers = 10, .vocab = 640}), DType::kF16);
    std::filesystem::copy_file(test::fixture("golden/tokenizers/llama2_style.json"),
                               folder_.file("in/tokenizer.json"));
    std::string text;
    for (int i = 0; i < 400; ++i)
      text += "the cat sat on the mat and looked at " + std::to_string(i) + " birds. ";
    write_file(folder_.file("calibration.txt"), std::as_bytes(std::span(text)));
    const auto begin = Clock::now();
    const auto r = test::run_process(command(folder_.file("undisturbed.pith")));
    whole_run_ = Clock::now() - begin;
    EXPECT_EQ(r.exit_code, 0) << r.err;
    expected_ = bytes_of(folder_.file("undisturbed.pith"));
  }

  std::vector<std::string> command(const std::string& to) const {
    std::vector<std::string> c = {PITH_PROGRAM, "quantize", folder_.file("in"), to, "w4", "-q",
                                  "-t",         "2"};
    if (GetParam().empty()) {
      c.insert(c.end(), {"--method", "rtn"});
    } else {
      const std::vector<std::string> more = {
          "--method",   GetParam(), "--calib",  folder_.file("calibration.txt"),
          "--nsamples", "8",        "--seqlen", "64"};
      c.insert(c.end(), more.begin(), more.end());
    }
    return c;
  }
  std::string output() const { return folder_.file("out.pith"); }
  uint64_t journal_bytes() const {
    std::error_code missing;
    const auto size = std::filesystem::file_size(output() + ".work/journal", missing);
    return missing ? 0 : size;
  }
  uint64_t bytes_of(const std::string& path) const { return hash64(read_file(path, 1 << 26)); }
  // The output is absent or whole at every moment.
  void expect_no_torn_output() const {
    if (file_exists(output())) {
      EXPECT_EQ(bytes_of(output()), expected_);
    }
  }
  void expect_that_a_rerun_completes() {
    const auto r = test::run_process(command(output()));
    ASSERT_EQ(r.exit_code, 0) << r.err;
    EXPECT_EQ(bytes_of(output()), expected_);
    EXPECT_FALSE(file_exists(output() + ".work"));
  }

  test::TemporaryFolder folder_;
  Clock::duration whole_run_{};
  uint64_t expected_ = 0;
};

// Killed as soon as it has committed one more unit, again and again.
TEST_P(Kill, at_every_commit_of_the_journal) {
  int kills = 0;
  for (;;) {
    const uint64_t before = journal_bytes();
    test::Process p(command(output()));
    while (p.running() && journal_bytes() <= before)
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    if (!p.running() && p.wait().exit_code == 0) break;
    p.signal(SIGKILL);
    const auto r = p.wait();
    if (r.exit_code == 0) break;
    ASSERT_EQ(r.signal, SIGKILL) << r.err;
    expect_no_torn_output();
    ++kills;
    ASSERT_LT(kills, 100) << "no progress from run to run";
  }
  EXPECT_GE(kills, 8);  // 13 units; a late kill may find two of them done
  expect_no_torn_output();
  expect_that_a_rerun_completes();
  RecordProperty("kills", kills);
}

TEST_P(Kill, at_any_time) {
  constexpr int kTimes = 16;
  for (int i = 0; i < kTimes; ++i) {
    test::Process p(command(output()));
    std::this_thread::sleep_for(whole_run_ * i / (kTimes - 2));
    p.signal(SIGKILL);
    p.wait();
    expect_no_torn_output();
    expect_that_a_rerun_completes();
    remove_file(output());
  }
}

TEST_P(Kill, with_an_older_output_in_place) {
  std::filesystem::copy_file(folder_.file("in/tokenizer.json"), output());
  const uint64_t old = bytes_of(output());
  for (int i = 1; i < 4; ++i) {
    test::Process p(command(output()));
    while (p.running() && journal_bytes() == 0)
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    p.signal(SIGKILL);
    if (p.wait().exit_code == 0) break;
    EXPECT_EQ(bytes_of(output()), old);
  }
  expect_that_a_rerun_completes();
}

TEST_P(Kill, a_signal_ends_with_its_code_and_the_work_goes_on_later) {
  for (const int number : {SIGINT, SIGTERM}) {
    test::Process p(command(output()));
    while (p.running() && journal_bytes() < 1500)
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    p.signal(number);
    const auto r = p.wait();
    if (r.exit_code != 0) {  // else it was faster
      EXPECT_EQ(r.exit_code, 128 + number) << r.signal << r.err;
      EXPECT_NE(r.err.find("interrupted"), std::string::npos) << r.err;
      EXPECT_FALSE(file_exists(output()));
      EXPECT_TRUE(file_exists(output() + ".work/journal"));
    }
    expect_that_a_rerun_completes();
    remove_file(output());
  }
}

TEST_P(Kill, a_second_process_is_refused_while_the_first_runs) {
  test::Process first(command(output()));
  while (first.running() && journal_bytes() < 200)
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  first.signal(SIGSTOP);
  if (!first.running()) GTEST_SKIP() << "it was over too soon";
  const auto second = test::run_process(command(output()));
  first.signal(SIGCONT);
  EXPECT_EQ(second.exit_code, 7) << second.err;
  EXPECT_NE(second.err.find("another process is writing"), std::string::npos) << second.err;
  EXPECT_EQ(first.wait().exit_code, 0);
  EXPECT_EQ(bytes_of(output()), expected_);
  EXPECT_FALSE(file_exists(output() + ".work"));
}

INSTANTIATE_TEST_SUITE_P(Methods, Kill, testing::Values("", "rtn", "gptq"), [](const auto& method) {
  return method.param.empty() ? std::string("without_calibration") : "calibrated_" + method.param;
});

}  // namespace
}  // namespace pith
