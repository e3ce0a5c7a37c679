// Channels that stand out: two inputs of one block grow fifty times and their weights shrink as
// much, so that the model computes what it did. Rounding suffers; scaling and rotation are there to
// make up for it.

#include <gtest/gtest.h>

#include "core/file.h"
#include "formats/tokenizer/tokenizer.h"
#include "quant/quantize_pass.h"
#include "quant/rotate.h"
#include "runtime/compress/driver.h"
#include "runtime/cpu/cpu_executor.h"
#include "runtime/eval/evaluate.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

constexpr float kFactor = 50;

class PlantedSource final : public ForwardingSource {
 public:
  using ForwardingSource::ForwardingSource;
  uint64_t hash() const override { return inner_.hash() + 1; }
  LinearForm form(const LinearInfo& info) const override {
    return planted(info) ? plain_form(Encoding::dense(DType::kF32)) : inner_.form(info);
  }
  Linear linear(const LinearInfo& info) const override {
    return planted(info) ? linear_from_rows(info) : inner_.linear(info);
  }
  void rows(const LinearInfo& info, int64_t row, int64_t rows, float* out) const override {
    inner_.rows(info, row, rows, out);
    for (int64_t r = 0; r < rows && planted(info); ++r) {
      for (const int64_t c : kChannels) out[r * info.k + c] /= kFactor;
    }
  }
  std::vector<float> vector(const VectorInfo& info) const override {
    auto v = inner_.vector(info);
    if (info.layer == 0 && info.role == VectorRole::kNorm) {
      for (const int64_t c : kChannels) v[static_cast<size_t>(c)] *= kFactor;
    }
    return v;
  }

 private:
  static constexpr int64_t kChannels[] = {17, 90};
  static bool planted(const LinearInfo& info) {
    return info.layer == 0 && info.role != LinearRole::kOutput && info.role != LinearRole::kDown;
  }
};

class Outliers : public testing::Test {
 protected:
  void SetUp() override {
    PITH_SHARED_OR_SKIP(path, "tinystories-656K/bf16");
    PITH_SHARED_OR_SKIP(file, "text/TinyStories-valid-30k.txt");
    source_ = open_model(path);
    base_ = load_model(*source_);
    const auto tokenizer = make_tokenizer(source_->tokenizer());
    const std::string text = read_text_file(file, 1 << 24);
    const auto tokens = tokenizer->encode(text.substr(0, 12000), {.add_special = false});
    for (size_t i = 0; i + 128 <= tokens.size(); i += 128) {
      auto& w = calibration_.emplace_back(tokens.begin() + static_cast<int64_t>(i),
                                          tokens.begin() + static_cast<int64_t>(i + 128));
      w[0] = base_.spec.bos_token();
    }
    windows_ = make_windows(parse_protocol("paragraph-512", 512), *tokenizer, text.substr(16000),
                            base_.spec.bos_token());
  }

  double kl(const ModelSource& source, const std::string& type, const std::string& method) {
    const test::TemporaryFolder folder;
    Passes passes;
    passes.push_back(make_quantize_pass({.linears = encoding_for_type(type),
                                         .method = parse_method(method),
                                         .input = input_for_type(type)}));
    compress(source, passes, {.output = folder.file("out.pith"), .calibration = calibration_});
    const auto result = open_model(folder.file("out.pith"));
    const auto executor = make_cpu_executor();
    return evaluate_kl(*executor, base_, load_model(*result), windows_).kl_mean;
  }

  std::unique_ptr<ModelSource> source_;
  Model base_;
  std::vector<std::vector<int32_t>> calibration_;
  std::vector<Window> windows_;
};

TEST_F(Outliers, scaling_and_rotation_recover_most_of_what_they_cost) {
  const PlantedSource planted(*source_);
  const auto rotated = rotate_model(planted, {.seed = 1});
  const struct {
    const char *type, *plain, *method;
    bool rotate;
  } cases[] = {{"w4", "minmax", "awq", false},
               {"w8a8", "minmax", "smoothquant", false},
               {"w8a8", "minmax", "minmax", true}};
  for (const auto& c : cases) {
    const double clean = kl(*source_, c.type, c.plain), plain = kl(planted, c.type, c.plain),
                 now = kl(c.rotate ? *rotated : static_cast<const ModelSource&>(planted), c.type,
                          c.method);
    EXPECT_GT(plain, 1.2 * clean) << c.type << ": nothing to recover";
    EXPECT_LT(now, plain - 0.8 * (plain - clean))
        << c.type << " " << c.method << ": clean " << clean << ", planted " << plain;
    RecordProperty(
        std::string(c.type) + "_" + c.method + (c.rotate ? "_rotated" : ""),
        fmt::format("clean {:.5f} planted {:.5f} recovered to {:.5f}", clean, plain, now));
  }
}

TEST_F(Outliers, planting_changes_nothing_that_is_not_rounded) {
  EXPECT_LT(kl(PlantedSource(*source_), "f32", "minmax"), kl(*source_, "f32", "minmax") + 1e-6);
}

}  // namespace
}  // namespace pith
