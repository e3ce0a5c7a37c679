// What quantization costs a small trained model.

#include <gtest/gtest.h>

#include "core/file.h"
#include "formats/tokenizer/tokenizer.h"
#include "quant/quantize_pass.h"
#include "runtime/compress/driver.h"
#include "runtime/cpu/cpu_executor.h"
#include "runtime/eval/evaluate.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

class TinyStories : public testing::Test {
 protected:
  void SetUp() override {
    PITH_SHARED_OR_SKIP(path, "tinystories-656K/bf16");
    PITH_SHARED_OR_SKIP(text, "text/TinyStories-valid-30k.txt");
    source_ = open_model(path);
    base_ = load_model(*source_);
    tokenizer_ = make_tokenizer(source_->tokenizer());
    windows_ = make_windows(parse_protocol("paragraph-512", 512), *tokenizer_,
                            read_text_file(text, 1 << 24), base_.spec.bos_token());
  }

  KlResult divergence(int bits, const std::string& method, bool symmetric) {
    const test::TemporaryFolder folder;
    Passes passes;
    passes.push_back(make_quantize_pass({.linears = Encoding::integer(bits, 32, symmetric),
                                         .method = parse_method(method),
                                         .ignore = {},
                                         .overrides = {}}));
    compress(*source_, passes, {.output = folder.file("out.pith"), .calibration = {}});
    const auto result = open_model(folder.file("out.pith"));
    const auto executor = make_cpu_executor();
    return evaluate_kl(*executor, base_, load_model(*result), windows_);
  }

  std::unique_ptr<ModelSource> source_;
  Model base_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::vector<Window> windows_;
};

TEST_F(TinyStories, eight_bits_change_the_perplexity_by_less_than_a_fifth_of_a_percent) {
  for (const char* method : {"minmax", "rtn"}) {
    const KlResult r = divergence(8, method, true);
    EXPECT_EQ(r.tokens, 7938);
    EXPECT_NEAR(r.base.perplexity, 30.885, 0.031);
    EXPECT_NEAR(r.ppl_ratio, 1, 0.002) << method;
    RecordProperty(std::string("w8_") + method, std::to_string(r.ppl_ratio));
  }
}

TEST_F(TinyStories, four_bits_change_the_perplexity_by_less_than_four_percent) {
  const KlResult r = divergence(4, "rtn", false);
  EXPECT_LT(r.ppl_ratio, 1.04);
  EXPECT_GT(r.ppl_ratio, 0.96);
}

TEST_F(TinyStories, searching_for_the_grid_is_closer_to_the_original_than_plain_rounding) {
  for (const int bits : {4, 3, 2}) {
    for (const bool symmetric : {false, true}) {
      const double rtn = divergence(bits, "rtn", symmetric).kl_mean,
                   minmax = divergence(bits, "minmax", symmetric).kl_mean;
      EXPECT_LT(rtn, minmax) << bits << " bits, symmetric " << symmetric;
    }
  }
}

}  // namespace
}  // namespace pith
