// A rotated model is the same function with other weights.

#include "quant/rotate.h"
#include "runtime/cpu/cpu_executor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "core/file.h"
#include "core/parallel.h"
#include "quant/orthogonal.h"
#include "runtime/eval/evaluate.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"
#include "tests/support/tiny_packed.h"
#include "tests/support/tiny_runtime.h"

namespace pith {
namespace {

// ---- The matrices ----

TEST(Orthogonal, preserves_products_at_every_size) {
  for (const int64_t n : {1,  2,  3,  4,  5,  6,   7,   8,   9,   12,  15,  16,  24,  31,  48,
                          64, 72, 80, 96, 99, 100, 128, 129, 192, 255, 256, 320, 384, 576, 600}) {
    const Orthogonal q(n, 3, 0);
    ASSERT_EQ(q.size(), n);
    std::vector<double> m(static_cast<size_t>(n * n));
    for (int64_t i = 0; i < n; ++i) m[static_cast<size_t>(i * n + i)] = 1;
    q.apply(m.data(), n);  // Q^T
    for (int64_t a = 0; a < n; ++a) {
      for (int64_t b = a; b < n; ++b) {
        double sum = 0;
        for (int64_t c = 0; c < n; ++c)
          sum += m[static_cast<size_t>(a * n + c)] * m[static_cast<size_t>(b * n + c)];
        ASSERT_NEAR(sum, a == b, 1e-13) << n << ": " << a << ", " << b;
      }
    }
  }
}

TEST(Orthogonal, columns_do_not_meet) {
  for (const int64_t n : {1, 8, 24, 35, 576}) {
    const Orthogonal q(n, 4, 1);
    constexpr int64_t kColumns = 5;
    Rng rng(9);
    std::vector<double> all(static_cast<size_t>(n * kColumns));
    for (double& v : all) v = rng.uniform() - 0.5;
    const auto before = all;
    q.apply(all.data(), kColumns);
    for (int64_t c = 0; c < kColumns; ++c) {
      std::vector<double> one(static_cast<size_t>(n));
      for (size_t i = 0; i < one.size(); ++i)
        one[i] = before[i * kColumns + static_cast<size_t>(c)];
      q.apply(one.data(), 1);
      for (size_t i = 0; i < one.size(); ++i)
        ASSERT_EQ(one[i], all[i * kColumns + static_cast<size_t>(c)]);
    }
  }
}

// 1/sqrt(n) in each where n is a power of two; elsewhere the odd factor may leave it in one of its
// own few.
TEST(Orthogonal, shares_one_channel_out_among_all) {
  for (const int64_t n : {64, 128, 576, 896, 1536}) {
    const Orthogonal q(n, 5, 0);
    std::vector<double> x(static_cast<size_t>(n));
    x[static_cast<size_t>(n / 3)] = 1;
    q.apply(x.data(), 1);
    double largest = 0;
    for (const double v : x) largest = std::max(largest, std::fabs(v));
    const double odd = static_cast<double>(n / (n & -n));
    EXPECT_LE(largest, std::sqrt(odd / static_cast<double>(n)) * (1 + 1e-12)) << n;
  }
}

TEST(Orthogonal, other_seeds_and_streams_are_other_matrices) {
  const auto image = [](uint64_t seed, uint64_t stream) {
    std::vector<double> x(72, 1.0);
    Orthogonal(72, seed, stream).apply(x.data(), 1);
    return x;
  };
  EXPECT_EQ(image(1, 2), image(1, 2));
  EXPECT_NE(image(1, 2), image(2, 2));
  EXPECT_NE(image(1, 2), image(1, 3));
}

TEST(Orthogonal, sizes_without_a_fast_form_are_refused) {
  EXPECT_PITH_ERROR(Orthogonal(2 * 4099, 0, 0), ErrorKind::kUnsupported, "odd factor 4099");
  EXPECT_PITH_ERROR(Orthogonal(0, 0, 0), ErrorKind::kUsage, "size 0");
}

// ---- The model ----

struct Tiny {
  std::string name, config;
};

std::vector<Tiny> tiny_models() {
  std::vector<Tiny> all;
  for (const auto& e : std::filesystem::directory_iterator(test::fixture("golden/arch"))) {
    const std::string name = e.path().filename();
    if (name.starts_with("gemma2") || name.starts_with("gemma3")) continue;  // refused, see below
    all.push_back(
        {e.path().filename(), read_text_file(e.path().string() + "/config.json", 1 << 20)});
  }
  std::ranges::sort(all, {}, &Tiny::name);
  const auto add = [&](const std::string& name, const test::TinySizes& sizes, bool biases) {
    Json j = parse_json(test::tiny_config(sizes), "config");
    j["attention_bias"] = j["mlp_bias"] = biases;
    all.push_back({name, j.dump()});
  };
  add("biases", {}, true);
  add("hidden_72", {.hidden = 72, .heads = 3, .kv_heads = 1}, true);  // heads of 24
  add("hidden_72_tied", {.hidden = 72, .heads = 6, .kv_heads = 3, .tied = true}, false);
  add("hidden_42", {.hidden = 42, .ffn = 31, .heads = 3, .kv_heads = 3}, true);
  return all;
}

class Rotation : public testing::TestWithParam<Tiny> {
 protected:
  Rotation() {
    test::write_tiny_checkpoint(folder_.path(), GetParam().config);
    source_ = open_model(folder_.path());
  }
  std::vector<float> logits(const ModelSource& source) const {
    const auto executor = make_cpu_executor();
    const auto vocab = static_cast<int32_t>(source.spec().vocab());
    return window_logits(*executor, load_model(source), {test::random_tokens(48, vocab, 7), 0});
  }

  test::TemporaryFolder folder_;
  std::unique_ptr<ModelSource> source_;
};

// f32 holds a rotated weight to 6e-8 of its size, and three layers of rounding follow: an
// unrotated model whose sums run in another order is as far away.
TEST_P(Rotation, leaves_the_logits_as_they_are) {
  const auto expected = logits(*source_);
  float largest = 0;
  for (const float v : expected) largest = std::max(largest, std::fabs(v));
  for (const RotateOptions& options :
       {RotateOptions{}, RotateOptions{.seed = 1}, RotateOptions{.values = false},
        RotateOptions{.residual = false}}) {
    const auto got = logits(*rotate_model(*source_, options));
    ASSERT_EQ(got.size(), expected.size());
    float worst = 0;
    for (size_t i = 0; i < got.size(); ++i)
      worst = std::max(worst, std::fabs(got[i] - expected[i]));
    EXPECT_LT(worst, 2e-5f * largest)
        << "residual " << options.residual << ", values " << options.values;
  }
}

TEST_P(Rotation, rows_are_those_of_the_whole_matrix_for_any_number_of_threads) {
  const auto rotated = rotate_model(*source_, {.seed = 2});
  for (const auto& info : linears_of(rotated->spec())) {
    set_threads(3);
    const Linear linear = rotated->linear(info);
    set_threads(1);
    ASSERT_EQ(linear.n, info.n);
    ASSERT_EQ(form_of(linear), rotated->form(info));
    std::vector<float> whole(static_cast<size_t>(info.n * info.k));
    reference_decode(linear, 0, info.n, whole.data());
    for (const auto& [row, rows] : {std::pair<int64_t, int64_t>{0, info.n},
                                    {0, 1},
                                    {info.n - 1, 1},
                                    {info.n / 3, info.n / 2}}) {
      std::vector<float> part(static_cast<size_t>(rows * info.k));
      rotated->rows(info, row, rows, part.data());
      ASSERT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + row * info.k))
          << info.name << ", rows from " << row;
    }
    ASSERT_TRUE(std::ranges::equal(rotated->bias(info), linear.bias)) << info.name;
  }
  set_threads(0);
}

TEST_P(Rotation, norms_become_one_and_a_tied_head_gets_a_matrix) {
  const auto rotated = rotate_model(*source_, {});
  EXPECT_FALSE(rotated->spec().tied_head());
  EXPECT_EQ(linears_of(rotated->spec()).back().name, "head");
  EXPECT_EQ(rotated->manifest(), nullptr);
  for (const auto& v : vectors_of(rotated->spec())) {
    const auto values = rotated->vector(v);
    if (v.role != VectorRole::kNorm && v.role != VectorRole::kFinalNorm) {
      EXPECT_EQ(values, source_->vector(v)) << v.name;
    } else {
      EXPECT_EQ(values, std::vector<float>(static_cast<size_t>(v.length), 1.0f)) << v.name;
    }
  }
  const auto values_only = rotate_model(*source_, {.residual = false});
  EXPECT_EQ(values_only->spec().tied_head(), source_->spec().tied_head());
  for (const auto& v : vectors_of(values_only->spec()))
    EXPECT_EQ(values_only->vector(v), source_->vector(v)) << v.name;
}

TEST_P(Rotation, hash_and_recipe_tell_what_was_done) {
  std::vector<uint64_t> hashes = {source_->hash()};
  for (const RotateOptions& options :
       {RotateOptions{}, RotateOptions{.seed = 1}, RotateOptions{.values = false},
        RotateOptions{.residual = false}}) {
    hashes.push_back(rotate_model(*source_, options)->hash());
  }
  std::ranges::sort(hashes);
  EXPECT_EQ(std::ranges::adjacent_find(hashes), hashes.end());
  EXPECT_EQ(source_->recipe(), "");
  EXPECT_EQ(rotate_model(*source_, {.seed = 5})->recipe(),
            "  - rotate:\n      residual: true\n      values: true\n      seed: 5\n");
}

INSTANTIATE_TEST_SUITE_P(Models, Rotation, testing::ValuesIn(tiny_models()),
                         [](const auto& i) { return i.param.name; });

double max_over_rms(const ModelSource& source, LinearRole role) {
  double worst = 0;
  for (const auto& info : linears_of(source.spec())) {
    if (info.role != role) continue;
    std::vector<float> w(static_cast<size_t>(info.n * info.k));
    source.rows(info, 0, info.n, w.data());
    double largest = 0, squares = 0;
    for (const float v : w) {
      largest = std::max(largest, std::fabs(static_cast<double>(v)));
      squares += static_cast<double>(v) * static_cast<double>(v);
    }
    worst = std::max(worst, largest / std::sqrt(squares / static_cast<double>(w.size())));
  }
  return worst;
}

// Channel 5 of the stream 30 times as large wherever it is read or written.
TEST(RotatedModel, outlier_channels_are_spread) {
  const test::TemporaryFolder folder;
  constexpr size_t kHidden = 72, kChannel = 5;
  test::write_tiny_checkpoint(folder.path(),
                              test::tiny_config({.hidden = kHidden, .heads = 3, .kv_heads = 1}),
                              DType::kF32, [](const std::string& name, std::vector<float>& w) {
                                const bool writes = name.find("o_proj") != std::string::npos ||
                                                    name.find("down_proj") != std::string::npos;
                                if (name.find("norm") != std::string::npos) return;
                                const size_t k = writes ? w.size() / kHidden : kHidden;
                                for (size_t i = 0; i < w.size(); ++i) {
                                  if ((writes ? i / k : i % k) == kChannel) w[i] *= 30;
                                }
                              });
  const auto source = open_model(folder.path());
  const auto rotated = rotate_model(*source, {});
  for (const LinearRole role : {LinearRole::kEmbedding, LinearRole::kQuery, LinearRole::kValue,
                                LinearRole::kOutput, LinearRole::kGate, LinearRole::kDown}) {
    const double before = max_over_rms(*source, role), after = max_over_rms(*rotated, role);
    EXPECT_GT(before, 10) << role_name(role);
    EXPECT_LT(after, 0.6 * before) << role_name(role) << ": " << before;
  }
}

// A packed file has several encodings, and a linear that is a sum of two terms.
TEST(RotatedModel, packed_files_can_be_rotated) {
  const test::TemporaryFolder folder;
  write_file(folder.file("m.pith"), as_bytes(test::tiny_packed()));
  const auto source = open_model(folder.file("m.pith"));
  const auto rotated = rotate_model(*source, {});
  const auto executor = make_cpu_executor();
  const Window window{test::random_tokens(20, 24, 3), 0};
  const auto expected = window_logits(*executor, load_model(*source), window),
             got = window_logits(*executor, load_model(*rotated), window);
  float largest = 0, worst = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    largest = std::max(largest, std::fabs(expected[i]));
    worst = std::max(worst, std::fabs(got[i] - expected[i]));
  }
  EXPECT_LT(worst, 1e-4f * largest);
}

// A source that says of its last norm what it likes.
class OddNorm final : public ForwardingSource {
 public:
  explicit OddNorm(const ModelSource& inner) : ForwardingSource(inner), spec_(inner.spec()) {
    spec_.mutable_final_norm()->set_kind(static_cast<proto::NormKind>(7));
  }
  const proto::ModelSpec& spec() const override { return spec_; }

 private:
  proto::ModelSpec spec_;
};

TEST(RotatedModel, other_norms_are_refused_where_they_matter) {
  const test::TinyRuntime tiny;
  const OddNorm odd(tiny.source());
  EXPECT_PITH_ERROR(rotate_model(odd, {}), ErrorKind::kUnsupported,
                    "final_norm: a norm of kind 7 does not commute");
  EXPECT_NE(rotate_model(odd, {.residual = false}), nullptr);
}

TEST(RotatedModel, norms_behind_sublayers_are_refused_where_they_matter) {
  const test::TinyRuntime tiny("gemma2");
  EXPECT_PITH_ERROR(rotate_model(tiny.source(), {}), ErrorKind::kUnsupported,
                    "layers.0.attention.post_norm: with a post-norm");
  const auto rotated = rotate_model(tiny.source(), {.residual = false});
  const Window window{test::random_tokens(30, 96, 7), 0};
  const auto executor = make_cpu_executor();
  const auto expected = window_logits(*executor, tiny.model(), window),
             got = window_logits(*executor, load_model(*rotated), window);
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 1e-4);
}

}  // namespace
}  // namespace pith
