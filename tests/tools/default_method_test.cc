// What `pith quantize` does where no method is named.

#include "tools/default_method.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/json.h"
#include "runtime/model/synthetic.h"
#include "tests/support/process.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"
#include "tools/calibration_text.h"

namespace pith::tools {
namespace {

using testing::HasSubstr;
using testing::Not;

QuantizeCommand chosen(const std::string& shape, const std::string& type,
                       const std::vector<std::string>& calibration = {}) {
  const auto model = make_synthetic(shape, {.linears = Encoding::dense(DType::kF16),
                                            .tables = Encoding::dense(DType::kF16),
                                            .input = {}});
  QuantizeCommand o;
  o.type = type;
  o.calibration = calibration;
  choose_method(o, model->spec(), true);
  return o;
}

TEST(DefaultMethod, is_gptq_for_few_bits_of_models_that_it_serves_in_minutes) {
  for (const char* type : {"w4", "w2", "w5", "nf4", "W4A16", "w4a8", "int4-g64-s8", "tcq3"})
    EXPECT_EQ(chosen("smollm2-135m", type).method, "gptq") << type;
  for (const char* type : {"w8", "w6", "fp8", "mxfp4", "f16", "w8a8", "int4-g64-2:4"})
    EXPECT_EQ(chosen("smollm2-135m", type).method, "rtn") << type;
  EXPECT_EQ(chosen("smollm2-135m", "w4", {"none"}).method, "rtn");
  for (const char* shape : {"llama-8b", "qwen3-30b-a3b", "deepseek-v2-lite"})
    EXPECT_EQ(chosen(shape, "w4").method, "rtn") << shape;
}

TEST(DefaultMethod, is_rtn_on_a_little_text_where_gptq_takes_long) {
  const QuantizeCommand larger = chosen("llama-1b", "w4");
  EXPECT_EQ(larger.method, "rtn");
  EXPECT_EQ(larger.calibration, larger.standard_text);
  EXPECT_EQ(larger.nsamples, kRtnText.windows);
  EXPECT_TRUE(chosen("llama-8b", "w4").calibration.empty());
  EXPECT_EQ(chosen("llama-1b", "w4", {"text.txt"}).calibration,
            std::vector<std::string>{"text.txt"});
  EXPECT_TRUE(chosen("llama-1b", "w8").calibration.empty());
}

TEST(DefaultMethod, writes_no_text_where_the_model_does_not_fit) {
  const auto model =
      make_synthetic("smollm2-135m",
                     {Encoding::dense(DType::kF16), Encoding::dense(DType::kF16), InputEncoding()});
  QuantizeCommand o;
  choose_method(o, model->spec(), false);
  EXPECT_EQ(o.method, "rtn");
  EXPECT_TRUE(o.calibration.empty());
  // The text of the program takes no more memory than the compression.
  QuantizeCommand reads;
  reads.standard_text = {"self", "builtin"};
  choose_method(reads, model->spec(), false);
  EXPECT_EQ(reads.method, "gptq");
  EXPECT_EQ(reads.calibration, std::vector<std::string>{"builtin"});
}

TEST(DefaultMethod, leaves_a_method_and_windows_that_are_named) {
  QuantizeCommand o;
  o.method = "minmax";
  choose_method(o, proto::ModelSpec(), true);
  EXPECT_EQ(o.method, "minmax");
  EXPECT_FALSE(o.method_is_chosen);
  const QuantizeCommand usual = chosen("smollm2-135m", "w4");
  EXPECT_EQ(usual.nsamples, kGptqText.windows);
  EXPECT_EQ(usual.seqlen, kGptqText.length);
  EXPECT_GT(usual.max_fallbacks, 1000);
}

TEST(DefaultMethod, says_what_comes_closer_and_how_long_it_takes) {
  const auto closer = [](const char* shape, const char* type) {
    const auto model = make_synthetic(
        shape, {Encoding::dense(DType::kF16), Encoding::dense(DType::kF16), InputEncoding()});
    QuantizeCommand o;
    o.type = type;
    choose_method(o, model->spec(), true);
    return how_to_get_closer(o, model->spec());
  };
  EXPECT_THAT(closer("smollm2-135m", "w4"), HasSubstr("--nsamples 64 --seqlen 1024, "));
  EXPECT_THAT(closer("llama-8b", "w4"), HasSubstr("--method gptq"));
  EXPECT_EQ(closer("smollm2-135m", "w8"), "");
}

TEST(DefaultMethod, grows_with_text_and_model) {
  const auto model =
      make_synthetic("smollm2-135m",
                     {Encoding::dense(DType::kF16), Encoding::dense(DType::kF16), InputEncoding()});
  const double few = operations_of(model->spec(), {.gptq = true}, {16, 512}, false);
  EXPECT_GT(few, 1e12);
  EXPECT_GT(operations_of(model->spec(), {.gptq = true}, {16, 512}, true), few);
  EXPECT_GT(operations_of(model->spec(), {.gptq = true}, {64, 1024}, false), 3 * few);
  EXPECT_EQ(about_time(1), "a moment");
  EXPECT_EQ(about_time(89), "about 89 s");
  EXPECT_EQ(about_time(600), "about 10 min");
  EXPECT_EQ(about_time(7200), "about 2 h");
}

// A model with so many experts that no text reaches them all.
TEST(DefaultMethod, does_not_fail_where_an_expert_gets_no_token) {
  const test::TemporaryFolder folder;
  test::write_tiny_checkpoint(folder.file("in"), test::tiny_moe_config({.layers = 1}, 64, 1));
  const auto r = test::run_process({PITH_PROGRAM, "quantize", folder.file("in"),
                                    folder.file("out.pith"), "w4", "-g", "16", "--nsamples", "2",
                                    "--seqlen", "16", "--json", folder.file("report")});
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const Json report = parse_json(read_text_file(folder.file("report"), 1 << 20), "report");
  EXPECT_EQ(report["method"], "gptq");
  EXPECT_FALSE(report["fallbacks"].empty());
  EXPECT_THAT(r.out, HasSubstr("time: "));
  EXPECT_THAT(r.out, Not(HasSubstr("to get closer")));  // the windows were given
}

TEST(DefaultMethod, decoding_to_dense_numbers_draws_no_warning_of_size) {
  const test::TemporaryFolder folder;
  test::write_tiny_checkpoint(folder.file("in"), test::tiny_config({.layers = 1}));
  const auto quantize = [&](const std::string& in, const std::string& out, const char* type) {
    return test::run_process({PITH_PROGRAM, "quantize", folder.file(in), folder.file(out), type});
  };
  ASSERT_EQ(quantize("in", "w4.pith", "w4").exit_code, 0);
  const auto dense = quantize("w4.pith", "f16.pith", "f16");
  EXPECT_EQ(dense.exit_code, 0);
  EXPECT_THAT(dense.err, Not(HasSubstr("larger than the input")));
  EXPECT_THAT(dense.err, Not(HasSubstr("quantized already")));
}

}  // namespace
}  // namespace pith::tools
