// What quantize said of types and methods was not what it did: types that do not exist were bad
// input files, groups of sparse types did not exist, gptq that does not round a type was weighted
// by a text that nobody gave, plans left out the manifest, and a closed standard output was no
// error.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "core/json.h"
#include "quant/quantize_pass.h"
#include "runtime/compress/driver.h"
#include "tests/support/quantize_program.h"

namespace pith {
namespace {

using testing::HasSubstr;
using testing::Not;
using QuantizeTypes = test::QuantizeProgram;

TEST_F(QuantizeTypes, that_do_not_exist_are_usage_errors) {
  const struct {
    Arguments arguments;
    const char* says;
  } cases[] = {
      {{"w8a8x"}, "types with rounded inputs"},
      {{"NVFP4"}, "no NVFP4"},
      {{"W4A4"}, "rounded inputs"},
      {{"w4", "--embedding-type", "mxfp8"}, "no MXFP8"},
      {{"w4", "--tensor-type", "down=w8a8x"}, "types with rounded inputs"},
      {{"w4", "--target-bpw", "4", "--candidates", "W7A16"}, "2, 3, 4, 5, 6 and 8 bits"},
      {{"bf16-bitmap0"}, "a bitmap keeps 1 to"},
      {{"bf16-4:4"}, "keeps 1 to m - 1 of every m"},
      {{"bf16-bitmap100"}, "keeps 100 columns of each row, and it has 64"},
      {{"w4", "--tensor-type", "down=int4-g64-bitmap2000"}, "layers.0.mlp.down: "},
      {{"mxfp4-2:4", "-g", "32"}, "has no groups"},
      {{"w4", "--method", "gptqq"}, "unknown method"},
      {{"w4", "--ignore", "a\xff"}, "not UTF-8"},
      {{"w4", "--tensor-type", "a\xff=w8"}, "not UTF-8"},
  };
  for (const auto& c : cases) {
    Arguments arguments = c.arguments;
    arguments.push_back("--dry-run");
    const auto r = quantize(arguments);
    EXPECT_EQ(r.exit_code, 2) << r.err;
    EXPECT_THAT(r.err, HasSubstr(c.says));
  }
  const auto named = pith({"quantize", in(), "NVFP4"});
  EXPECT_EQ(named.exit_code, 2);
  EXPECT_THAT(named.err, HasSubstr("the name of a type"));
}

TEST(SparseNames, take_the_options_of_their_values) {
  EXPECT_EQ(encoding_for_type("int4-g64-2:4", 32), parse_encoding("int4-g32-2:4"));
  EXPECT_EQ(encoding_for_type("int4-g64-2:4", -1, false), parse_encoding("int4-g64-asym-2:4"));
  EXPECT_EQ(encoding_for_type("nf4-g64-bitmap20", 0), parse_encoding("nf4-row-bitmap20"));
  EXPECT_PITH_ERROR(encoding_for_type("nf4-g64-2:4", -1, false), ErrorKind::kUsage,
                    "has no zero points");
}

TEST_F(QuantizeTypes, that_gptq_does_not_round_are_told_as_they_are_rounded) {
  const struct {
    Arguments arguments;
    const char *says, *says_not;
  } cases[] = {
      {{"mxfp4"},
       "gptq does not round mxfp4: rtn instead of gptq; it weighs by inputs where",
       "on the text"},
      {{"mxfp4", "--calib", text_file(), "--nsamples", "4", "--seqlen", "32"},
       "gptq does not round mxfp4: rtn weighted by inputs instead of gptq",
       "where there is a text"},
      {{"bf16", "--tensor-type", "down=mxfp4"},
       "gptq does not round mxfp4: rtn instead of gptq",
       "changes nothing"},
      {{"bf16-2:4"}, "gptq does not round bf16-2:4: rtn instead of gptq", "weigh"},
      {{"f16"},
       "gptq changes nothing for f16: plain rounding, without a calibration text",
       "round f16"},
      {{"mxfp4", "--damp-percent", "0.1"},
       "--damp-percent has no effect: gptq does not round this type",
       "the method is not gptq"},
  };
  for (const auto& c : cases) {
    Arguments arguments = c.arguments;
    arguments.insert(arguments.end(), {"--method", "gptq", "--dry-run"});
    const auto r = quantize(arguments);
    EXPECT_EQ(r.exit_code, 0) << r.err;
    EXPECT_THAT(r.err, HasSubstr(c.says));
    EXPECT_THAT(r.err, Not(HasSubstr(c.says_not)));
  }
}

TEST_F(QuantizeTypes, plans_are_of_the_size_that_the_file_has) {
  for (const Arguments& type :
       {Arguments{"w4", "--method", "rtn"},
        {"int4-g32-2:4"},
        {"nf4"},
        {"f16"},
        {"w8a8"},
        {"w3", "--rotate"},
        {"w4", "--method", "gptq", "--calib", text_file(), "--nsamples", "4", "--seqlen", "32"}}) {
    Arguments arguments = type;
    arguments.insert(arguments.end(), {"-q", "--json", folder_.file("j")});
    ASSERT_EQ(quantize(arguments).exit_code, 0) << type[0];
    const Json j = parse_json(read_text_file(folder_.file("j"), 1 << 20), "j");
    const auto size = static_cast<double>(std::filesystem::file_size(out()));
    EXPECT_EQ(j["file_bytes"].get<double>(), size);
    EXPECT_NEAR(j["planned_output_bytes"].get<double>(), size, 0.01 * size) << type[0];
    EXPECT_EQ(j["planned_seconds"].is_number(), j["calibration_tokens"].get<int64_t>() > 0)
        << type[0];
  }
  // A target is met from below, and used, also where layers say why they were rounded otherwise.
  for (const char* method : {"rtn", "gptq"}) {
    ASSERT_EQ(quantize({"w4", "--target-size", "140k", "--method", method, "--calib", text_file(),
                        "--nsamples", "4", "--seqlen", "32", "--max-fallbacks", "99", "-q"})
                  .exit_code,
              0);
    EXPECT_LE(std::filesystem::file_size(out()), 140000u) << method;
    EXPECT_GT(std::filesystem::file_size(out()), 125000u) << method;
  }
}

TEST_F(QuantizeTypes, a_closed_output_is_an_error_before_the_work) {
  const std::string command = std::string(PITH_PROGRAM) + " quantize " + in() + " " + out();
  const auto closed = test::run_process({"/bin/bash", "-c", command + " w4 --method rtn >&-"});
  EXPECT_EQ(closed.exit_code, 4) << closed.err;
  EXPECT_THAT(closed.err, HasSubstr("standard output"));
  EXPECT_FALSE(file_exists(out()));
  EXPECT_FALSE(file_exists(out() + ".work"));
}

TEST_F(QuantizeTypes, inspect_and_help_show_all_there_is) {
  ASSERT_EQ(quantize({"w4", "--method", "rtn", "--calib", text_file(), "--nsamples", "4",
                      "--seqlen", "32", "-q"})
                .exit_code,
            0);
  const auto r = pith({"inspect", out()});
  EXPECT_THAT(r.out, HasSubstr("file           config.json"));
  EXPECT_THAT(r.out, HasSubstr("file           tokenizer.json"));
  EXPECT_THAT(r.out, HasSubstr("calibration    text with hash "));
  const auto j = parse_json(pith({"inspect", out(), "--json", "-"}).out, "inspect");
  EXPECT_EQ(j["files"]["config.json"].get<uint64_t>(),
            std::filesystem::file_size(folder_.file("in/config.json")));
  EXPECT_THAT(pith({"quantize", "--help"}).out, HasSubstr("int4-g64-2:4"));
}

TEST_F(QuantizeTypes, names_that_are_not_utf8_leave_standard_error_alone) {
  const std::string strange = folder_.file("m\xff\xfeo");
  std::filesystem::copy(in(), strange);
  const auto r = pith({"quantize", strange, out(), "w4", "--method", "rtn", "-q"});
  EXPECT_EQ(r.exit_code, 0) << r.err;
  EXPECT_EQ(r.err, "");
  const auto again = pith({"inspect", out()});
  EXPECT_EQ(again.exit_code, 0);
  EXPECT_EQ(again.err, "");
  // Nor do they reach the protobuf library, which prints, from the library itself.
  testing::internal::CaptureStderr();
  Passes passes;
  passes.push_back(make_quantize_pass(
      {.linears = encoding_for_type("w8"), .ignore = {"a\xff"}, .overrides = {}}));
  EXPECT_PITH_ERROR(
      compress(*open_model(in()), passes, {.output = out(), .calibration = {}}, no_progress()),
      ErrorKind::kUsage, "not UTF-8");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace pith
