// A tape of a forward pass: what a wrapper sees are primitives with names, enough to do the pass
// again elsewhere, and so to go through it backwards.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <limits>

#include "runtime/cpu/cpu_executor.h"
#include "runtime/forward/forward.h"
#include "runtime/forward/forwarding_executor.h"
#include "tests/support/tiny_runtime.h"

namespace pith {
namespace {

class RecordingExecutor final : public ForwardingExecutor {
 public:
  using ForwardingExecutor::ForwardingExecutor;

  void run(const Op& op) override {
    if (expand_composite(op, *this)) return;
    tape.push_back(op);
    inner_.run(op);
  }
  Tensor buffer(TensorId id, int64_t m, int64_t n) override {
    int64_t& size = sizes[static_cast<size_t>(id)];
    size = std::max(size, m * n);
    return inner_.buffer(id, m, n);
  }

  std::vector<Op> tape;
  std::array<int64_t, kTensorIds> sizes{};
};

// The tape of one prompt of 9 tokens. Its operations refer to the model and to the cache.
struct RecordedPass {
  explicit RecordedPass(const char* family) : model(test::TinyRuntime(family).model()) {
    const auto tokens = test::random_tokens(9, static_cast<int32_t>(model.spec.vocab()), 5);
    const Segment segment{0, 0, 9};
    const int64_t row = 8;
    forward_logits(recorder, model, {tokens, std::span(&segment, 1)}, *cache, std::span(&row, 1));
  }

  const Model model;
  const std::unique_ptr<Executor> inner = make_cpu_executor();
  const std::unique_ptr<KvCache> cache = inner->make_cache(model.spec, {1, 9, NumberFormat::kF32});
  RecordingExecutor recorder{*inner};
};

class Recording : public testing::TestWithParam<const char*> {};

TEST_P(Recording, of_a_pass_gives_the_same_logits_when_it_is_run_again) {
  const Model model = test::TinyRuntime(GetParam()).model();
  const auto tokens = test::random_tokens(21, static_cast<int32_t>(model.spec.vocab()), 3);
  const Segment segments[] = {{0, 0, 12}, {1, 0, 9}};
  const int64_t rows[] = {11, 20, 3};
  const auto first = make_cpu_executor(), again = make_cpu_executor();
  const auto cache = first->make_cache(model.spec, {2, 16, NumberFormat::kF32});
  RecordingExecutor recorder(*first);
  const Tensor logits = forward_logits(recorder, model, {tokens, segments}, *cache, rows);
  std::vector<float> expected(static_cast<size_t>(logits.m * logits.n)), found(expected.size());
  first->read(logits, expected);

  std::array<Tensor, kTensorIds> all;
  for (size_t i = 0; i < kTensorIds; ++i) {
    all[i] = again->buffer(static_cast<TensorId>(i), 1, recorder.sizes[i]);
    again->write(std::vector<float>(static_cast<size_t>(recorder.sizes[i]),
                                    std::numeric_limits<float>::quiet_NaN()),
                 all[i]);
  }
  for (const Op& op : recorder.tape) again->run(op);
  again->read(logits, found);
  EXPECT_EQ(found, expected);
}

TEST_P(Recording, names_what_every_primitive_reads_and_writes) {
  const RecordedPass pass(GetParam());
  std::array<bool, kTensorIds> defined{};
  size_t linears = 0;
  for (const Op& op : pass.recorder.tape) {
    each_tensor(op, [&](Tensor x, Access access) {
      if (access == Access::kRead || access == Access::kConsume) {
        EXPECT_TRUE(defined[static_cast<size_t>(x.id)]) << op.index();
      }
    });
    each_tensor(op, [&](Tensor x, Access access) {
      defined[static_cast<size_t>(x.id)] =
          access != Access::kConsume && (writes(access) || defined[static_cast<size_t>(x.id)]);
    });
    each_linear(op, [&](const Linear& l) { linears += &l != &pass.model.embedding; });
  }
  EXPECT_TRUE(defined[static_cast<size_t>(TensorId::kLogits)]);
  EXPECT_GE(linears, 7 * pass.model.blocks.size());
}

// A backward pass finds the keys and values of an attention by name, before it on the tape.
TEST_P(Recording, has_keys_and_values_of_every_attention_by_name) {
  const RecordedPass pass(GetParam());
  const StoreKvOp* stored = nullptr;
  int attentions = 0;
  for (const Op& op : pass.recorder.tape) {
    if (const auto* store = std::get_if<StoreKvOp>(&op)) stored = store;
    const auto* attention = std::get_if<AttentionOp>(&op);
    if (attention == nullptr) continue;
    ASSERT_NE(stored, nullptr);
    EXPECT_EQ(stored->cache.storage, attention->cache.storage);
    EXPECT_EQ(stored->cache.index, attentions++);
    EXPECT_EQ(attention->cache.index, stored->cache.index);
    const int64_t width = attention->shape.kv_heads * attention->shape.head_dim;
    for (const Tensor x : {stored->k, stored->v}) {
      EXPECT_EQ(x.m, 9);
      EXPECT_EQ(x.n, width);
    }
  }
  EXPECT_EQ(attentions, attention_count(pass.model.spec, pass.model.spec.layers_size()));
}

INSTANTIATE_TEST_SUITE_P(Families, Recording,
                         testing::Values("llama", "gemma2", "gpt_oss", "qwen2_moe", "mixtral",
                                         "deepseek_v3"),
                         [](const auto& family) { return std::string(family.param); });

}  // namespace
}  // namespace pith
