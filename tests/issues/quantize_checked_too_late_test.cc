// Errors that can be known at the start came after the calibration text had been written, and
// options without effect passed silently.

#include <gtest/gtest.h>

#include <filesystem>

#include "core/bytes.h"
#include "core/file.h"
#include "core/json.h"
#include "tests/support/process.h"
#include "tests/support/sanitized.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

using Arguments = std::vector<std::string>;

class QuantizeCommandTest : public testing::Test {
 protected:
  QuantizeCommandTest() {
    test::write_tiny_checkpoint(in(), test::tiny_config({.layers = 2, .vocab = 640}), DType::kF16);
    std::filesystem::copy_file(test::fixture("golden/tokenizers/llama2_style.json"),
                               folder_.file("in/tokenizer.json"));
  }
  std::string in() const { return folder_.file("in"); }
  std::string out() const { return folder_.file("out.pith"); }
  test::ProcessResult run(const Arguments& arguments) const {
    Arguments command = {PITH_PROGRAM, "quantize"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return test::run_process(command);
  }

  test::TemporaryFolder folder_;
};

TEST_F(QuantizeCommandTest, refuses_what_cannot_be_before_it_writes_text) {
  const std::string nowhere = folder_.file("no/x");
  const struct {
    Arguments arguments;
    int code;
    const char* says;
  } cases[] = {
      {{in(), nowhere, "w4", "--method", "gptq"}, 4, "no/x: cannot create"},
      {{in(), folder_.path(), "w4", "--method", "gptq"}, 2, "the output is a folder"},
      {{in(), "/dev/null", "w4", "--method", "gptq"}, 2, "not a regular file"},
      {{in(), out(), "w4", "--method", "gptq", "--json", nowhere}, 4, "no/x: cannot create"},
      {{in(), out(), "w4", "--max-kl", "0.1", "--costs", nowhere}, 4, "no/x: cannot create"},
      {{in(), out(), "w4", "--max-kl", "0.1", "--plan-out", nowhere}, 4, "no/x: cannot create"},
      {{in(), out(), "w4", "--max-kl", "0.1", "--nsamples", "4"}, 2, "4 are too few"},
      {{in(), out(), "w4", "--target-size", "1k"}, 2, "cannot be had"},
      {{in(), out(), "w4", "--target-size", "1M", "--target-bpw", "4"}, 2, "give one of them"},
      {{in(), out(), "w4", "--plan-out", folder_.file("p")}, 2, "--target-size"},
      {{in(), out(), "w4", "--method", "gptq", "--calib", "none"}, 2, "gptq needs a calibration"},
      {{in(), out(), "w4", "--method", "awq", "--calib", "none"}, 2, "awq needs a calibration"},
      {{in(), out(), "w4", "--method", "awq+gptq", "--calib", "none"}, 2, "needs a calibration"},
      {{in(), out(), "w8a8", "--static-inputs", "--calib", "none"}, 2, "constant scale of inputs"},
      {{in(), out(), "w4", "--target-bpw", "4", "--calib", "none"}, 2, "mixed precision measures"},
      {{in(), "w4"}, 2, "the name of a type"},
      {{in(), "gptq", "w4"}, 2, "the name of a method"},
      {{in(), folder_.file("in/tokenizer.json")}, 2, "belongs to the model"},
      {{in(), folder_.file("in/config.json")}, 2, "belongs to the model"},
      {{in(), out(), "--json", folder_.file("in/config.json")}, 2, "belongs to the model"},
      {{in(), out(), "--json", out()}, 2, "is the output as well"},
      {{in(), out(), "w4", "--tensor-type", "down=W8A8"}, 2, "rounds inputs"},
  };
  for (const auto& c : cases) {
    const auto r = run(c.arguments);
    EXPECT_EQ(r.exit_code, c.code) << c.says << ": " << r.err;
    EXPECT_NE(r.err.find(c.says), std::string::npos) << c.says << ": " << r.err;
    EXPECT_EQ(r.err.find("tokens first"), std::string::npos) << r.err;
    EXPECT_EQ(folder_.files(), 3) << c.says;
  }
}

TEST_F(QuantizeCommandTest, says_what_has_no_effect) {
  const struct {
    Arguments arguments;
    const char* says;
  } cases[] = {
      {{"--method", "rtn", "--damp-percent", "1"}, "--damp-percent has no effect"},
      {{"--method", "rtn", "--refine", "3", "--no-order"}, "--no-order has no effect"},
      {{"--smooth-alpha", "0.5"}, "--smooth-alpha has no effect"},
      {{"--candidates", "w4"}, "--candidates has no effect"},
      {{"--method", "rtn", "--nsamples", "3"}, "--nsamples has no effect"},
      {{"--tensor-type", "nosuch=w8"}, "--tensor-type nosuch=int8-g64 matches no layer"},
      {{"--ignore", "nosuch"}, "--ignore nosuch matches no layer"},
      {{"f16", "--method", "gptq"}, "gptq changes nothing for f16"},
      {{"nf4", "--sym"}, "--sym has no effect"},
      {{"mxfp4", "--method", "gptq", "--nsamples", "8", "--seqlen", "16"},
       "gptq does not round mxfp4"},
      {{"w2", "--method", "rtn"}, "2 bits with rtn"},
  };
  for (const auto& c : cases) {
    Arguments all = {in(), out(), "--dry-run"};
    all.insert(all.begin() + 2, c.arguments.begin(), c.arguments.end());
    const auto r = run(all);
    EXPECT_EQ(r.exit_code, 0) << c.says << ": " << r.err;
    EXPECT_NE(r.err.find(c.says), std::string::npos) << c.says << ": " << r.err;
  }
  const std::string small = folder_.file("small.pith");
  ASSERT_EQ(run({in(), small, "w2", "--method", "rtn", "-q"}).exit_code, 0);
  const auto wider = run({small, out(), "w8", "--embedding-type", "f32", "--dry-run"});
  EXPECT_NE(wider.err.find("is larger than the input"), std::string::npos) << wider.err;
  ASSERT_EQ(run({in(), out(), "w8", "-q"}).exit_code, 0);
  const auto again = run({out(), folder_.file("again.pith"), "w4", "--dry-run"});
  EXPECT_NE(again.err.find("is quantized already (int8-g64)"), std::string::npos) << again.err;
}

TEST_F(QuantizeCommandTest, records_what_was_done) {
  const auto r = run({in(), out(), "mxfp4", "--method", "gptq", "--nsamples", "8", "--seqlen", "16",
                      "-q", "--json", "-"});
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const Json j = parse_json(r.out, "json");
  EXPECT_EQ(j["method"], "rtn");
  for (const auto& [name, n] : j["methods"].items())
    EXPECT_EQ(name.find("gptq"), std::string::npos);
}

TEST_F(QuantizeCommandTest, does_not_begin_what_does_not_fit_into_memory) {
  const auto r = test::run_process({"/bin/sh", "-c",
                                    "ulimit -d 40000 && exec " + std::string(PITH_PROGRAM) +
                                        " quantize " + in() + " " + out() + " w4 -q -t 1"});
  if (test::kSanitized) GTEST_SKIP() << "sanitizers need memory of their own";
  EXPECT_EQ(r.exit_code, 6) << r.err;
  EXPECT_NE(r.err.find("this compression takes"), std::string::npos) << r.err;
  EXPECT_EQ(folder_.files(), 3);
}

TEST_F(QuantizeCommandTest, names_the_scale_that_underflows_and_the_remedy) {
  test::write_tiny_checkpoint(folder_.file("tiny"), test::tiny_config({.layers = 1}), DType::kF32,
                              [](const std::string& name, std::vector<float>& w) {
                                if (name.find("mlp.up") == std::string::npos) return;
                                for (float& v : w) v *= 1e-9f;
                              });
  const auto r = run({folder_.file("tiny"), out(), "w4", "-q"});
  EXPECT_EQ(r.exit_code, 5) << r.err;
  EXPECT_NE(r.err.find("layers.0.mlp.up"), std::string::npos) << r.err;
  EXPECT_NE(r.err.find("underflows in f16"), std::string::npos) << r.err;
  EXPECT_NE(r.err.find("--bf16-scales"), std::string::npos) << r.err;
  EXPECT_EQ(run({folder_.file("tiny"), out(), "w4", "-q", "--bf16-scales"}).exit_code, 0);
}

TEST_F(QuantizeCommandTest, keeps_json_out_of_the_way_of_standard_output) {
  const auto r = test::run_process({"/bin/sh", "-c",
                                    std::string(PITH_PROGRAM) + " quantize " + in() + " " + out() +
                                        " w4 -q --json /dev/stdout >" + folder_.file("log") +
                                        "; ls -l /dev/stdout"});
  EXPECT_EQ(r.exit_code, 0) << r.err;
  EXPECT_NE(r.out.find("/proc/self/fd/1"), std::string::npos) << r.out;
  const std::string log = read_text_file(folder_.file("log"), 1 << 20);
  EXPECT_NE(log.find("\"file_bytes\""), std::string::npos) << log;
}

}  // namespace
}  // namespace pith
