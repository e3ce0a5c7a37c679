// Outputs that a command writes besides its result replaced the model, the text or the tokenizer
// that it read; the report of an error did so even where the path had been refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <thread>

#include "core/bytes.h"
#include "core/file.h"
#include "tests/support/process.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

using Arguments = std::vector<std::string>;

class OutputReplacedInput : public ::testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_checkpoint(in(), test::tiny_config({.layers = 1, .vocab = 640}), DType::kF16);
    std::filesystem::copy_file(test::fixture("golden/tokenizers/llama2_style.json"),
                               folder_.file("in/tokenizer.json"));
    const std::string text = "one two three four five six seven eight nine ten ";
    std::string long_text;
    for (int i = 0; i < 40; ++i) long_text += text;
    write_file(folder_.file("text"), as_bytes(long_text));
  }
  std::string in() const { return folder_.file("in"); }
  std::string in(const char* name) const { return join_path(in(), name); }

  test::ProcessResult run(Arguments arguments) const {
    arguments.insert(arguments.begin(), PITH_PROGRAM);
    return test::run_process(arguments);
  }
  test::TemporaryFolder folder_;
};

TEST_F(OutputReplacedInput, is_refused_and_the_file_stays) {
  const std::string text = folder_.file("text");
  const Arguments cases[] = {
      {"inspect", in(), "--json", in("config.json")},
      {"inspect", in(), "--nope", "--json", in("config.json")},
      {"quantize", in(), folder_.file("o.pith"), "w4", "--json", in("config.json")},
      {"tokenize", in(), "-f", text, "--json", text},
      {"eval", "ppl", in(), "-f", text, "--json", text},
      {"eval", "ppl", in(), "-f", text, "--json", in("model.safetensors")},
      {"eval", "ppl", in(), "-f", text, "--save-logits", in("model.safetensors")},
      {"eval", "ppl", in(), "-f", text, "--save-logits", text},
      {"compare", in(), "--types", "w8", "-f", text, "-o", in("config.json")},
      {"run", in(), "--prompts", text, "--output", text},
  };
  const auto files = {text, in("config.json"), in("model.safetensors")};
  std::vector<std::string> before;
  for (const auto& f : files) before.push_back(read_text_file(f, 1 << 24));
  for (const auto& c : cases) {
    const auto r = run(c);
    EXPECT_EQ(r.exit_code, 2) << c[0] << ": " << r.err;
    size_t i = 0;
    for (const auto& f : files) EXPECT_EQ(read_text_file(f, 1 << 24), before[i++]) << c[0];
  }
}

// One of the files that are compared lay in the folder of --keep under the name of a type.
TEST_F(OutputReplacedInput, a_kept_file_is_no_model_of_the_comparison) {
  const std::string text = folder_.file("text"), kept = folder_.file("kept");
  std::filesystem::create_directory(kept);
  const std::string file = join_path(kept, "w8.pith");
  ASSERT_EQ(run({"quantize", in(), file, "w8", "--method", "minmax"}).exit_code, 0);
  const std::string before = read_text_file(file, 1 << 24);
  const auto r = run({"compare", in(), file, "--types", "w8", "-f", text, "--keep", kept});
  EXPECT_EQ(r.exit_code, 2) << r.err;
  EXPECT_THAT(r.err, ::testing::HasSubstr("--keep would replace it"));
  EXPECT_EQ(read_text_file(file, 1 << 24), before);
}

TEST_F(OutputReplacedInput, a_pipe_that_nobody_reads_is_left_by_a_signal) {
  const std::string pipe = folder_.file("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  test::Process p({PITH_PROGRAM, "inspect", in(), "--json", pipe});
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  p.signal(SIGTERM);
  EXPECT_EQ(p.wait().exit_code, 143);
}

}  // namespace
}  // namespace pith
