// Prompts that were answered only when all had come; endless and binary input that was read on and
// on.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "formats/text_lines.h"
#include "tests/support/process.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

class EndlessPrompts : public testing::Test {
 protected:
  EndlessPrompts() {
    test::write_tiny_checkpoint(model(), test::tiny_config({.layers = 1, .vocab = 640}));
    std::filesystem::copy_file(test::fixture("golden/tokenizers/llama2_style.json"),
                               folder_.file("model/tokenizer.json"));
  }
  std::string model() const { return folder_.file("model"); }
  std::string put(const std::string& name, const std::string& bytes) {
    write_file(folder_.file(name), std::as_bytes(std::span(bytes)));
    return folder_.file(name);
  }
  test::ProcessResult run(std::vector<std::string> more, const std::string& input = "") {
    std::vector<std::string> c = {PITH_PROGRAM, "run", model(), "-n", "1", "-t", "1", "-q"};
    c.insert(c.end(), more.begin(), more.end());
    return test::run_process(c, {}, input);
  }
  // The same by a pipe.
  test::ProcessResult piped(const std::string& input, const std::string& more = "") {
    return test::run_process({"/bin/sh", "-c",
                              "cat " + put("input", input) + " | " + PITH_PROGRAM + " run " +
                                  model() + " -n 1 -t 1 -q --prompts - " + more});
  }

  test::TemporaryFolder folder_;
};

TEST_F(EndlessPrompts, are_answered_one_by_one_as_they_arrive) {
  int in[2], out[2];
  ASSERT_EQ(::pipe2(in, O_CLOEXEC), 0);
  ASSERT_EQ(::pipe2(out, O_CLOEXEC), 0);
  const std::string path = model();
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(in[0], 0);
    ::dup2(out[1], 1);
    ::execl(PITH_PROGRAM, PITH_PROGRAM, "run", path.c_str(), "--prompts", "-", "-n", "1", "-t", "1",
            "-q", nullptr);
    ::_exit(98);
  }
  ::close(in[0]);
  ::close(out[1]);
  for (const char* prompt : {"the cat\n", "the mat\n"}) {
    ASSERT_GT(::write(in[1], prompt, strlen(prompt)), 0);
    // The pipe stays open: only an answer to this line can come.
    std::string answer;
    pollfd p{out[0], POLLIN, 0};
    while (!answer.ends_with("\n") && ::poll(&p, 1, 20000) > 0) {
      char part[4096];
      const ssize_t n = ::read(out[0], part, sizeof(part));
      if (n <= 0) break;
      answer.append(part, static_cast<size_t>(n));
    }
    ASSERT_TRUE(answer.ends_with("\n")) << "no answer to " << prompt;
    EXPECT_EQ(parse_json(answer, "answer")["prompt"].get<std::string>() + "\n", prompt);
  }
  ::close(in[1]);
  int status = 0;
  ::waitpid(child, &status, 0);
  ::close(out[0]);
  EXPECT_EQ(status, 0);
}

TEST_F(EndlessPrompts, by_pipe_are_those_of_the_file) {
  const std::string text = "the cat\r\n\nthe mat";
  const auto texts = [](const std::string& lines) {
    std::istringstream in(lines);
    std::string all;
    for (std::string line; std::getline(in, line);)
      all += parse_json(line, "line")["text"].get<std::string>() + "|";
    return all;
  };
  const auto file = run({"--prompts", put("f", text)});
  EXPECT_EQ(file.exit_code, 0) << file.err;
  const auto pipe = piped(text);
  EXPECT_EQ(pipe.exit_code, 0) << pipe.err;
  EXPECT_EQ(texts(pipe.out), texts(file.out));
  const auto packed = test::run_process({"/bin/sh", "-c",
                                         "gzip -c " + folder_.file("f") + " | " + PITH_PROGRAM +
                                             " run " + model() + " -n 1 -t 1 -q --prompts -"});
  EXPECT_EQ(texts(packed.out), texts(file.out)) << packed.err;
  EXPECT_EQ(piped("\n\n").exit_code, 2);
  // Blanks in JSON are no prompt.
  const auto json = piped(" { \"prompt\" : \"the cat\" }\n");
  EXPECT_EQ(parse_json(json.out, "line")["prompt"], "the cat") << json.err;
}

TEST_F(EndlessPrompts, are_answered_into_any_kind_of_output) {
  const std::string prompts = put("f", "the cat\nthe mat\n");
  const auto wanted = run({"--prompts", prompts});
  for (const std::string to : {"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}) {
    const auto r = run({"--prompts", prompts, "--output", to});
    EXPECT_EQ(r.exit_code, 0) << r.err;
    EXPECT_EQ(std::ranges::count(r.out, '\n'), 2) << to;
    EXPECT_EQ(run({"--prompts", prompts, "--output", to, "--json", "-"}).exit_code, 2);
  }
  const auto other = test::run_process({"/bin/bash", "-c",
                                        std::string(PITH_PROGRAM) + " run " + model() +
                                            " -n 1 -t 1 -q --prompts " + prompts +
                                            " --output >(cat >&2); sleep 0.2"});
  EXPECT_EQ(std::ranges::count(other.err, '\n'), 2) << other.err;
  EXPECT_EQ(run({"--prompts", prompts, "--output", "/dev/full"}).exit_code, 4);
}

TEST_F(EndlessPrompts, that_end_in_nonsense_keep_the_answers_before_it) {
  const std::string out = folder_.file("answers");
  const auto r = piped("{\"prompt\": \"the\"}\nnonsense\n", "--output " + out);
  EXPECT_EQ(r.exit_code, 3);
  EXPECT_NE(r.err.find("line 2"), std::string::npos) << r.err;
  EXPECT_EQ(parse_json(read_text_file(out, 1 << 20), "answers")["prompt"], "the");
}

TEST_F(EndlessPrompts, that_are_no_text_are_refused_at_once) {
  for (const std::vector<std::string>& c :
       std::vector<std::vector<std::string>>{{"run", model(), "--prompts", "/dev/zero"},
                                             {"run", model(), "-f", "/dev/zero"},
                                             {"tokenize", model(), "-f", "/dev/zero"},
                                             {"eval", "ppl", model(), "-f", "/dev/zero"}}) {
    auto words = c;
    words.insert(words.begin(), PITH_PROGRAM);
    const auto r = test::run_process(words);
    EXPECT_EQ(r.exit_code, 3) << c[0];
    EXPECT_NE(r.err.find("byte 0 is NUL"), std::string::npos) << r.err;
  }
  const auto latin = piped("caf\xe9\n");
  EXPECT_EQ(latin.exit_code, 3);
  EXPECT_NE(latin.err.find("Latin-1"), std::string::npos) << latin.err;
}

TEST_F(EndlessPrompts, lines_are_bounded_and_packed_texts_may_have_several_members) {
  const auto lines = [&](const std::string& bytes, uint64_t most) {
    TextLines in(put("lines", bytes), most);
    std::vector<std::string> all;
    for (std::string line; in.next(&line);) all.push_back(line);
    return all;
  };
  EXPECT_EQ(lines("\xef\xbb\xbf"
                  "a\n\nb",
                  4),
            (std::vector<std::string>{"a", "", "b"}));
  EXPECT_EQ(lines("", 4), std::vector<std::string>{});
  EXPECT_THROW(lines("12345", 4), Error);
  const auto packed = [](const std::string& text) {
    std::string out(text.size() + 100, '\0');
    z_stream z{};
    deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    z.avail_in = static_cast<uInt>(text.size());
    z.next_out = reinterpret_cast<Bytef*>(out.data());
    z.avail_out = static_cast<uInt>(out.size());
    deflate(&z, Z_FINISH);
    out.resize(z.total_out);
    deflateEnd(&z);
    return out;
  };
  const std::string one = packed("a\nb"), two = packed("c\n" + std::string(200000, 'd') + "\n");
  EXPECT_EQ(lines(one + two, 1 << 20),
            (std::vector<std::string>{"a", "bc", std::string(200000, 'd')}));
  EXPECT_THROW(lines(one + two.substr(0, two.size() / 2), 1 << 20), Error);
  EXPECT_THROW(lines(one + "rest", 1 << 20), Error);
}

}  // namespace
}  // namespace pith
