// Standard streams that are closed, full or broken: the documented exit code, and nothing left
// behind.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <functional>
#include <thread>

#include "core/file.h"
#include "tests/support/process.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

enum class Stream { kGood, kClosed, kFull, kBroken };
constexpr Stream kStreams[] = {Stream::kGood, Stream::kClosed, Stream::kFull, Stream::kBroken};
const char* name_of(Stream s) {
  return s == Stream::kGood     ? "good"
         : s == Stream::kClosed ? "closed"
         : s == Stream::kFull   ? "full"
                                : "broken";
}

void set(int descriptor, Stream s) {
  ::close(descriptor);
  if (s == Stream::kClosed) return;
  if (s != Stream::kBroken) {
    const int fd = ::open(s == Stream::kFull ? "/dev/full" : "/dev/null", O_RDWR);
    if (fd != descriptor) ::dup2(fd, descriptor), ::close(fd);
    return;
  }
  int ends[2];
  if (::pipe(ends) != 0) ::_exit(99);
  const int kept = descriptor == 0 ? ends[0] : ends[1], gone = descriptor == 0 ? ends[1] : ends[0];
  const int moved = ::fcntl(kept, F_DUPFD, 10);
  ::close(kept);
  ::close(gone);
  ::dup2(moved, descriptor);
  ::close(moved);
}

// The exit code, or 1000 and the signal that ended it.
int run_with(const std::vector<std::string>& arguments, Stream in, Stream out, Stream err,
             const std::function<void()>& before = {}) {
  const pid_t child = ::fork();
  if (child == 0) {
    // The highest first: what is opened for one must not be taken for another.
    set(2, err);
    set(1, out);
    set(0, in);
    if (out == Stream::kClosed) ::close(1);
    if (err == Stream::kClosed) ::close(2);
    if (before) before();
    std::vector<char*> argv;
    for (const auto& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
    argv.push_back(nullptr);
    ::execv(argv[0], argv.data());
    ::_exit(98);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

class Streams : public testing::Test {
 protected:
  Streams() {
    test::write_tiny_checkpoint(folder_.file("in"), test::tiny_config({.layers = 1, .vocab = 640}));
    std::filesystem::copy_file(test::fixture("golden/tokenizers/llama2_style.json"),
                               folder_.file("in/tokenizer.json"));
    const std::string config =
        R"({"chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"})";
    write_file(folder_.file("in/tokenizer_config.json"), std::as_bytes(std::span(config)));
  }
  std::string in() const { return folder_.file("in"); }
  test::TemporaryFolder folder_;
};

TEST_F(Streams, of_every_kind_end_in_a_documented_exit_code) {
  const std::string out = folder_.file("out.pith");
  const int before = folder_.files();
  struct Case {
    std::vector<std::string> arguments;
    bool prints;  // on standard output
    int code;     // where that can be written
  };
  const std::vector<Case> cases = {
      {{"run", in(), "-p", "the", "-n", "2", "-t", "1"}, true, 0},
      {{"quantize", in(), out, "w4", "--method", "rtn", "-t", "1"}, true, 0},
      {{"inspect", folder_.file("none")}, false, 4},
      {{"inspect", in(), "--nonsense"}, false, 2},
      {{"chat", in(), "-n", "1", "-t", "1"}, false, 0},
      {{"tokenize", in(), "-p", "the"}, true, 0},
  };
  for (const Case& c : cases) {
    for (const Stream stdin_kind : kStreams) {
      for (const Stream stdout_kind : kStreams) {
        for (const Stream stderr_kind : kStreams) {
          std::vector<std::string> arguments = c.arguments;
          arguments.insert(arguments.begin(), PITH_PROGRAM);
          const int got = run_with(arguments, stdin_kind, stdout_kind, stderr_kind);
          int expected = c.code;
          // /dev/full is an endless line where it is read.
          if (c.arguments[0] == "chat" && stdin_kind == Stream::kFull) expected = 3;
          if (c.prints && stdout_kind == Stream::kFull) expected = 4;
          if (c.prints && stdout_kind == Stream::kClosed) expected = 4;
          if (c.prints && stdout_kind == Stream::kBroken) expected = 141;
          EXPECT_EQ(got, expected) << c.arguments[0] << ": " << name_of(stdin_kind) << " "
                                   << name_of(stdout_kind) << " " << name_of(stderr_kind);
          std::filesystem::remove(out);
          EXPECT_EQ(folder_.files(), before) << c.arguments[0];
        }
      }
    }
  }
}

TEST_F(Streams, without_output_every_result_for_it_is_an_error) {
  const std::string packed = folder_.file("out.pith"), text = folder_.file("text");
  ASSERT_EQ(
      test::run_process({PITH_PROGRAM, "quantize", in(), packed, "w4", "--method", "rtn", "-q"})
          .exit_code,
      0);
  std::string words;
  for (int i = 0; i < 20; ++i) words += "the cat sat on the mat ";
  write_file(text, std::as_bytes(std::span(words)));
  const std::vector<std::vector<std::string>> commands = {
      {"--help"},
      {"--version"},
      {"devices"},
      {"inspect", in()},
      {"inspect", in(), "--json", "-"},
      {"inspect", in(), "--json", "/dev/stdout"},
      {"verify", packed},
      {"tokenize", in(), "-p", "the", "--ids"},
      {"run", in(), "-p", "the", "-n", "1", "--json", "-"},
      {"eval", "ppl", in(), "-f", text},
      {"eval", "kl", packed, "--base", in(), "-f", text},
      {"compare", in(), "--types", "w4", "--no-speed", "-f", text},
      {"bench", in(), "-p", "4", "-n", "2", "--repetitions", "1"},
      {"quantize", in(), folder_.file("o2.pith"), "w4", "--method", "rtn", "--json", "-"}};
  for (const auto& c : commands) {
    std::vector<std::string> arguments = c;
    arguments.insert(arguments.begin(), PITH_PROGRAM);
    for (const Stream out : {Stream::kClosed, Stream::kFull})
      EXPECT_EQ(run_with(arguments, Stream::kGood, out, Stream::kGood), 4)
          << c[0] << " " << name_of(out);
  }
  // Said once.
  const auto r = test::run_process({PITH_PROGRAM, "inspect", in(), "--json", "/nonexistent/x"});
  EXPECT_EQ(r.exit_code, 4);
  EXPECT_EQ(r.err.find("/nonexistent/x"), r.err.rfind("/nonexistent/x")) << r.err;
  const auto full = test::run_process(
      {"/bin/sh", "-c", std::string(PITH_PROGRAM) + " inspect " + in() + " --json - >/dev/full"});
  EXPECT_EQ(full.err.find("pith:"), full.err.rfind("pith:")) << full.err;
}

TEST_F(Streams, a_cache_that_no_memory_holds_is_refused_with_what_fits) {
  const auto limited = [] {
    const rlimit limit{rlim_t{600} << 20, rlim_t{600} << 20};
    ::setrlimit(RLIMIT_AS, &limit);
  };
  const std::vector<std::vector<std::string>> commands = {
      {"run", in(), "-p", "the", "-n", "1", "-c", "16777216"},
      {"run", in(), "-p", "the", "-n", "1", "-c", "16777216", "--kv", "int4"},
      {"chat", in(), "-c", "16777216"}};
  for (const auto& c : commands) {
    std::vector<std::string> arguments = c;
    arguments.insert(arguments.begin(), PITH_PROGRAM);
    EXPECT_EQ(run_with(arguments, Stream::kGood, Stream::kGood, Stream::kGood, limited), 6) << c[0];
  }
  const auto r = test::run_process({"/bin/sh", "-c",
                                    "ulimit -v 600000; exec " + std::string(PITH_PROGRAM) +
                                        " run " + in() + " -p the -n 1 -c 16777216"});
  EXPECT_EQ(r.exit_code, 6);
  EXPECT_EQ(r.out, "");  // not even the prompt
  const size_t at = r.err.find(" tokens fit (--ctx-size)");
  ASSERT_NE(at, std::string::npos) << r.err;
  // What is named does fit.
  const size_t begin = r.err.rfind(' ', at - 1) + 1;
  const std::string fits = r.err.substr(begin, at - begin);
  const auto again =
      test::run_process({"/bin/sh", "-c",
                         "ulimit -v 600000; exec " + std::string(PITH_PROGRAM) + " run " + in() +
                             " -p the -n 1 -t 1 -c " + std::to_string(std::stoll(fits) / 2)});
  EXPECT_EQ(again.exit_code, 0) << again.err;
}

TEST_F(Streams, that_were_closed_are_not_taken_by_files_of_the_work) {
  const std::string out = folder_.file("out.pith"), other = folder_.file("other.pith");
  const std::vector<std::string> c = {PITH_PROGRAM, "quantize", in(), out, "w4",
                                      "--method",   "rtn",      "-t", "1"};
  EXPECT_EQ(run_with(c, Stream::kClosed, Stream::kClosed, Stream::kClosed), 4);
  EXPECT_FALSE(file_exists(out));
  ASSERT_EQ(run_with(c, Stream::kClosed, Stream::kGood, Stream::kClosed), 0);
  ASSERT_EQ(
      test::run_process({PITH_PROGRAM, "quantize", in(), other, "w4", "--method", "rtn", "-t", "1"})
          .exit_code,
      0);
  EXPECT_EQ(read_file(out, 1 << 24), read_file(other, 1 << 24));
}

TEST_F(Streams, a_reader_that_goes_ends_the_program_at_once) {
  const auto r = test::run_process(
      {"/bin/bash", "-c",
       std::string(PITH_PROGRAM) + " run " + in() + " -p the -n -1 -c 100000 --ignore-eos -t 1 " +
           "2>" + folder_.file("err") + " | head -c 1 >/dev/null; echo ${PIPESTATUS[0]}"});
  EXPECT_EQ(r.out, "141\n") << r.err;
  EXPECT_EQ(read_text_file(folder_.file("err"), 1 << 20).find("pith:"), std::string::npos);
}

TEST_F(Streams, a_signal_ends_the_program_with_its_number) {
  ::signal(SIGHUP, SIG_DFL);  // nohup would have it ignored
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    test::Process p({PITH_PROGRAM, "run", in(), "-p", "the", "-n", "-1", "-c", "200000",
                     "--ignore-eos", "-t", "1"});
    std::this_thread::sleep_for(std::chrono::milliseconds(400));
    p.signal(signal);
    const auto r = p.wait();
    EXPECT_EQ(r.exit_code, 128 + signal) << r.signal << r.err.substr(0, 200);
  }
}

TEST_F(Streams, text_and_statistics_are_never_on_one_line) {
  const std::string log = folder_.file("log");
  ASSERT_EQ(test::run_process({"/bin/sh", "-c",
                               std::string(PITH_PROGRAM) + " run " + in() + " -p the -n 4 -t 1 >" +
                                   log + " 2>&1"})
                .exit_code,
            0);
  const std::string text = read_text_file(log, 1 << 20);
  const size_t at = text.find(" prompt tokens at");
  ASSERT_NE(at, std::string::npos) << text;
  EXPECT_NE(text.substr(0, at).find_last_of('\n'), std::string::npos);
  EXPECT_EQ(text.substr(text.find_last_of('\n', at) + 1).find_first_not_of("0123456789"),
            at - text.find_last_of('\n', at) - 1)
      << text;
}

TEST_F(Streams, a_file_size_limit_is_an_error_and_leaves_nothing) {
  const auto none = [] {
    const rlimit limit{0, 0};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  };
  const int before = folder_.files();
  EXPECT_EQ(run_with({PITH_PROGRAM, "inspect", in(), "--json", folder_.file("report.json")},
                     Stream::kGood, Stream::kGood, Stream::kGood, none),
            4);
  EXPECT_EQ(folder_.files(), before);
}

TEST_F(Streams, threads_that_cannot_start_are_done_without) {
  for (const rlim_t megabytes : {150, 300, 500, 2000}) {
    const auto limited = [&] {
      const rlimit limit{megabytes << 20, megabytes << 20};
      ::setrlimit(RLIMIT_AS, &limit);
    };
    const int code = run_with({PITH_PROGRAM, "run", in(), "-p", "the", "-n", "2", "-t", "256"},
                              Stream::kGood, Stream::kGood, Stream::kGood, limited);
    EXPECT_TRUE(code == 0 || code == 6) << megabytes << " MB: " << code;
    if (megabytes >= 500) {
      EXPECT_EQ(code, 0) << megabytes << " MB";
    }
  }
}

TEST_F(Streams, no_home_no_terminal_and_a_folder_that_cannot_be_written_are_no_trouble) {
  const auto bare = [] {
    ::clearenv();
    if (::chdir("/proc") != 0) ::_exit(97);
  };
  for (const std::vector<std::string>& c : std::vector<std::vector<std::string>>{
           {"run", in(), "-p", "the", "-n", "2"}, {"chat", in(), "-n", "1"}, {"inspect", in()}}) {
    std::vector<std::string> arguments = c;
    arguments.insert(arguments.begin(), PITH_PROGRAM);
    EXPECT_EQ(run_with(arguments, Stream::kGood, Stream::kGood, Stream::kGood, bare), 0) << c[0];
  }
  EXPECT_EQ(run_with({PITH_PROGRAM, "quantize", in(), "/proc/out.pith", "w4"}, Stream::kGood,
                     Stream::kGood, Stream::kGood, bare),
            4);
}

}  // namespace
}  // namespace pith
