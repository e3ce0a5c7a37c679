// Checkpoints in FP8 with scales of blocks, rows and tensors, as DeepSeek, Qwen and
// compressed-tensors publish them. Logits are those of transformers with the weights that the codes
// stand for (tests/golden/make_fp8_goldens.py).

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/bytes.h"
#include "core/json.h"
#include "formats/safetensors.h"
#include "runtime/cpu/cpu_executor.h"
#include "runtime/eval/evaluate.h"
#include "runtime/model/source.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

// A folder that is written tensor by tensor.
class Checkpoint8 {
 public:
  void add(const std::string& name, DType dtype, std::vector<int64_t> shape,
           std::vector<std::byte> bytes) {
    contents_.push_back(std::move(bytes));
    tensors_.push_back({name, dtype, std::move(shape), contents_.back()});
  }
  void add_floats(const std::string& name, DType dtype, std::vector<int64_t> shape,
                  const std::vector<float>& values) {
    std::vector<std::byte> bytes(values.size() * info(dtype).bytes);
    from_f32(dtype, values.data(), bytes.data(), values.size());
    add(name, dtype, std::move(shape), std::move(bytes));
  }
  const std::string& write(const std::string& config) {
    write_safetensors(folder_.file("model.safetensors"), tensors_);
    write_file(folder_.file("config.json"), as_bytes(config));
    return folder_.path();
  }

 private:
  test::TemporaryFolder folder_;
  std::vector<std::vector<std::byte>> contents_;
  std::vector<TensorData> tensors_;
};

float bf16(float v) { return bf16_to_f32(f32_to_bf16(v)); }

// The formula of make_fp8_goldens.py.
void add_blocks(const test::TinyTensor& t, DType scale_type, Checkpoint8* to) {
  const std::vector<float> w = test::tiny_weights(t);
  const int64_t n = t.shape[0], k = t.shape[1], across = ceil_div(k, int64_t{128});
  std::vector<float> scales;
  for (int64_t i = 0; i < ceil_div(n, int64_t{128}); ++i) {
    for (int64_t j = 0; j < across; ++j)
      scales.push_back(
          bf16(static_cast<float>(std::sqrt(3.0 / static_cast<double>(k)) / 448 *
                                  (1 + static_cast<double>((3 * i + 5 * j) % 7) / 8))));
  }
  std::vector<std::byte> codes;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < k; ++j)
      codes.push_back(static_cast<std::byte>(
          f32_to_f8e4m3(w[static_cast<size_t>(i * k + j)] /
                        scales[static_cast<size_t>(i / 128 * across + j / 128)])));
  }
  to->add(t.name, DType::kF8E4M3, t.shape, std::move(codes));
  to->add_floats(t.name + "_scale_inv", scale_type, {ceil_div(n, int64_t{128}), across}, scales);
}

class Fp8Checkpoint : public testing::TestWithParam<const char*> {};

TEST_P(Fp8Checkpoint, logits_equal_those_of_its_weights_in_transformers) {
  const std::string folder = test::fixture(std::string("golden/fp8/") + GetParam());
  const std::string config = read_text_file(folder + "/config.json", 1 << 20);
  const Json golden = parse_json(read_text_file(folder + "/logits.json", 1 << 20), "logits.json");
  Checkpoint8 files;
  for (const auto& t : test::tiny_tensors(parse_json(config, "config.json"))) {
    if (t.shape.size() == 2 && t.name.find("_proj") != std::string::npos) {
      add_blocks(t, std::string(GetParam()) == "qwen3" ? DType::kBF16 : DType::kF32, &files);
    } else {
      files.add_floats(t.name, DType::kF32, t.shape, test::tiny_weights(t));
    }
  }
  const auto source = open_model(files.write(config));
  // Number for number in the encoding of the checkpoint, but where a part cuts through blocks.
  for (const auto& info : linears_of(source->spec())) {
    const bool head = info.role == LinearRole::kKeyUp || info.role == LinearRole::kValueUp;
    const bool stored = info.layer >= 0 && info.role != LinearRole::kRouter;
    const bool cut = head && std::string(GetParam()) == "deepseek_v3_cut" &&
                     !(info.role == LinearRole::kKeyUp && info.head == 0);
    EXPECT_EQ(source->form(info).terms[0].weight,
              stored && !cut ? Encoding::fp8(DType::kF8E4M3, ScaleArea::kBlock128)
                             : Encoding::dense(DType::kF32))
        << info.name;
    // Any rows alone are those of the whole.
    std::vector<float> whole(static_cast<size_t>(info.n * info.k));
    reference_decode(source->linear(info).terms[0].w, 0, info.n, whole.data());
    const int64_t row = info.n / 3, rows = info.n - row;
    std::vector<float> part(static_cast<size_t>(rows * info.k));
    source->rows(info, row, rows, part.data());
    EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + row * info.k)) << info.name;
  }
  const auto logits = window_logits(*make_cpu_executor(), load_model(*source),
                                    {golden["tokens"], golden["first_position"]});
  size_t i = 0;
  for (const auto& line : golden["logits"]) {
    for (const double v : line) ASSERT_NEAR(static_cast<double>(logits.at(i++)), v, 1e-4);
  }
  EXPECT_NE(source->notes().at(0).find("inputs are not rounded to FP8"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Families, Fp8Checkpoint,
                         testing::Values("qwen3", "deepseek_v3", "deepseek_v3_cut"),
                         [](const auto& i) { return i.param; });

// One llama, whose q_proj [192, 64] of layer 0 is in FP8 with these scales.
struct ScaleCase {
  const char* name;
  const char* suffix;
  std::vector<int64_t> shape;
  const char* quantization;
  Encoding encoding;
  float (*scale)(int64_t row, int64_t column);
  const char* error = nullptr;
};
constexpr const char* kFp8 = R"({"quant_method": "fp8"})";
constexpr const char* kSmallBlocks = R"({"quant_method": "fp8", "weight_block_size": [64, 32]})";
constexpr const char* kChannels = R"({"quant_method": "compressed-tensors",
    "format": "float-quantized", "config_groups": {"group_0": {
    "weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}}})";
const Encoding kDense = Encoding::dense(DType::kF32);
Encoding fp8(ScaleArea area) { return Encoding::fp8(DType::kF8E4M3, area); }
float value(int64_t i) { return 0.01f * static_cast<float>(i + 1); }
const ScaleCase kScaleCases[] = {
    {"tensor",
     "_scale",
     {},
     kFp8,
     fp8(ScaleArea::kTensor),
     [](int64_t, int64_t) { return value(0); }},
    {"tensor_of_rank_1",
     "_scale",
     {1},
     R"({"quant_method": "modelopt", "quant_algo": "FP8"})",
     fp8(ScaleArea::kTensor),
     [](int64_t, int64_t) { return value(0); }},
    {"rows",
     "_scale",
     {192, 1},
     kChannels,
     fp8(ScaleArea::kRow),
     [](int64_t r, int64_t) { return value(r); }},
    {"rows_of_rank_1",
     "_scale",
     {192},
     R"({"quant_method": "fbgemm_fp8"})",
     fp8(ScaleArea::kRow),
     [](int64_t r, int64_t) { return value(r); }},
    {"blocks",
     "_scale_inv",
     {2, 1},
     kFp8,
     fp8(ScaleArea::kBlock128),
     [](int64_t r, int64_t) { return value(r / 128); }},
    {"small_blocks",
     "_scale_inv",
     {3, 2},
     kSmallBlocks,
     kDense,
     [](int64_t r, int64_t c) { return value(r / 64 * 2 + c / 32); }},
    {"no_config",
     "_scale_inv",
     {2, 1},
     "null",
     fp8(ScaleArea::kBlock128),
     [](int64_t r, int64_t) { return value(r / 128); }},
    {"missing",
     "_other",
     {2, 1},
     kFp8,
     kDense,
     nullptr,
     "is in FP8 and \"model.layers.0.self_attn.q_proj.weight_scale_inv\" is missing"},
    {"too_few", "_scale_inv", {1, 2}, kFp8, kDense, nullptr, "does not hold the scales of"},
    {"of_other_blocks", "_scale_inv", {3, 1}, kFp8, kDense, nullptr, "does not hold the scales of"},
};
class Fp8Scale : public testing::TestWithParam<ScaleCase> {};

TEST_P(Fp8Scale, of_each_area_gives_its_numbers) {
  const ScaleCase& p = GetParam();
  Json config = parse_json(
      test::tiny_config({.hidden = 64, .layers = 1, .heads = 4, .kv_heads = 4}), "config");
  config["head_dim"] = 48u;
  config["quantization_config"] = parse_json(p.quantization, "quantization");
  const std::string name = "model.layers.0.self_attn.q_proj.weight";
  Checkpoint8 files;
  std::vector<std::byte> codes;
  for (int i = 0; i < 192 * 64; ++i) codes.push_back(static_cast<std::byte>(i % 0x7f));
  for (const auto& t : test::tiny_tensors(config)) {
    if (t.name == name) {
      files.add(name, DType::kF8E4M3, t.shape, codes);
    } else {
      files.add_floats(t.name, DType::kF32, t.shape, test::tiny_weights(t));
    }
  }
  int64_t count = 1;
  for (const int64_t d : p.shape) count *= d;
  std::vector<float> scales;
  for (int64_t i = 0; i < count; ++i) scales.push_back(value(i));
  files.add_floats(name + p.suffix, DType::kF32, p.shape, scales);
  const std::string& folder = files.write(config.dump());
  if (p.error != nullptr) {
    EXPECT_PITH_ERROR(open_model(folder), ErrorKind::kCorrupt, p.error);
    return;
  }
  const auto source = open_model(folder);
  for (const auto& info : linears_of(source->spec(), 0)) {
    if (info.role != LinearRole::kQuery) continue;
    EXPECT_EQ(source->form(info).terms[0].weight, p.encoding);
    std::vector<float> rows(192 * 64);
    source->rows(info, 0, 192, rows.data());
    for (int64_t r = 0; r < 192; ++r) {
      for (int64_t c = 0; c < 64; ++c) {
        const float code =
            f8e4m3_to_f32(static_cast<uint8_t>(codes[static_cast<size_t>(r * 64 + c)]));
        ASSERT_EQ(rows[static_cast<size_t>(r * 64 + c)], code * p.scale(r, c)) << r << " " << c;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Table, Fp8Scale, testing::ValuesIn(kScaleCases),
                         [](const auto& i) { return std::string(i.param.name); });

}  // namespace
}  // namespace pith
