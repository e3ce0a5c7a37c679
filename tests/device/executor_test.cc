// Whole models on the emulated device against the CPU's executor.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <numeric>

#include "core/json.h"
#include "formats/encodings/encoding.h"
#include "runtime/algebra/algebra.h"
#include "runtime/cpu/cpu_executor.h"
#include "runtime/cuda/gpu_executor.h"
#include "runtime/cuda/memory_plan.h"
#include "runtime/cuda_kernels/gemm/gemm_plan.h"
#include "runtime/cuda_kernels/ops_table.h"
#include "runtime/eval/evaluate.h"
#include "runtime/forward/forward.h"
#include "runtime/forward/forwarding_executor.h"
#include "runtime/forward/split_executor.h"
#include "runtime/model/source.h"
#include "tests/support/encodings.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

std::unique_ptr<Executor> emulated() { return make_gpu_executor(cuda::ops_table(), "emulated"); }

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double worst = 0, largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i])) return 1e9;
    worst = std::max(worst, std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    largest = std::max(largest, std::fabs(static_cast<double>(b[i])));
  }
  return worst / largest;
}

std::vector<std::string> families() {
  std::vector<std::string> names;
  for (const auto& e : std::filesystem::directory_iterator(test::fixture("golden/arch")))
    names.push_back(e.path().filename());
  std::ranges::sort(names);
  return names;
}

class GpuFamilies : public testing::TestWithParam<std::string> {};

TEST_P(GpuFamilies, gives_the_logits_of_the_cpu) {
  const std::string folder = test::fixture("golden/arch/" + GetParam());
  const Json golden = parse_json(read_text_file(folder + "/logits.json", 1 << 20), "logits.json");
  const std::vector<int32_t> tokens = golden["tokens"];
  const test::TemporaryFolder temporary;
  test::write_tiny_checkpoint(temporary.path(), read_text_file(folder + "/config.json", 1 << 20),
                              DType::kBF16);
  const auto source = open_model(temporary.path());
  const Model model = load_model(*source);
  const auto cpu = make_cpu_executor(), gpu = emulated();
  gpu->prepare(model);
  const auto n = static_cast<int64_t>(tokens.size());
  const Window window{tokens, n - 3};
  EXPECT_LT(distance(window_logits(*gpu, model, window), window_logits(*cpu, model, window)), 2e-3);
}

// A small model whose linears are as `change` leaves them.
struct Changed {
  test::TemporaryFolder folder;
  std::unique_ptr<ModelSource> source;
  Model model;
  std::vector<int32_t> tokens;

  explicit Changed(const std::function<void(Linear&)>& change,
                   const test::TinySizes& sizes = {.hidden = 80, .vocab = 70})
      : Changed(change, test::tiny_config(sizes)) {}
  Changed(const std::function<void(Linear&)>& change, const std::string& config) {
    test::write_tiny_checkpoint(folder.path(), config);
    source = open_model(folder.path());
    model = load_model(*source);
    change(model.embedding);
    for (auto& b : model.blocks) {
      for (auto& s : b.sublayers)
        for (const Linear* l : s.linears()) change(const_cast<Linear&>(*l));
    }
    if (model.own_head) change(*model.own_head);
    for (int32_t i = 0; i < 12; ++i) tokens.push_back(i * 29 % 70);
  }
  std::vector<float> logits(Executor& e) { return window_logits(e, model, {tokens, 5}); }
};

std::function<void(Linear&)> encoded(const Encoding& e, const InputEncoding& input = {}) {
  return [=](Linear& l) {
    std::vector<float> dense(static_cast<size_t>(l.n * l.k));
    reference_decode(l, 0, l.n, dense.data());
    l.terms[0].w = encode(e, l.n, l.k, dense.data());
    if (l.name != "embedding") l.input = input;
  };
}

TEST(GpuExecutor, runs_quantized_weights_and_rounded_inputs_as_the_cpu_does) {
  const InputEncoding i8{DType::kI8, InputScale::kToken, 0},
      f8{DType::kF8E4M3, InputScale::kBlock128, 0}, f8_token{DType::kF8E4M3, InputScale::kToken, 0};
  const struct {
    Encoding weights;
    InputEncoding inputs;
    double most;
  } kCases[] = {{Encoding::integer(4, 32, false), {}, 1e-3},
                {Encoding::integer(3, 64, true, DType::kBF16, true), {}, 1e-3},
                {Encoding::nf4(64), {}, 2e-3},
                // Inputs near the middle of two codes may go the other way.
                {Encoding::integer(8, 0), i8, 5e-2},
                {Encoding::integer(4, 64, true, DType::kF16, true), i8, 5e-2},
                {Encoding::integer(4, 32), i8, 5e-2},
                {Encoding::fp8(DType::kF8E4M3, ScaleArea::kRow), f8_token, 0.15},
                {Encoding::fp8(DType::kF8E4M3, ScaleArea::kBlock128), f8, 0.15}};
  for (const auto& c : kCases) {
    Changed m(encoded(c.weights, c.inputs));
    const auto cpu = make_cpu_executor(), gpu = emulated();
    gpu->prepare(m.model);
    EXPECT_LT(distance(m.logits(*gpu), m.logits(*cpu)), c.most) << to_string(c.weights);
  }
}

const std::string kMixture =
    test::tiny_moe_config({.hidden = 80, .ffn = 48, .layers = 2, .vocab = 70}, 5, 2);

// Counts the products of chosen experts: pair by pair, and sorted.
struct CountsExperts {
  static inline int pairs = 0, sorted = 0;
  cuda::Ops ops = cuda::ops_table();
  CountsExperts() {
    pairs = sorted = 0;
    ops.moe_gemv = [](const cuda::MoeGemv& a, cuda::Stream s) {
      ++pairs;
      return cuda::ops_table().moe_gemv(a, s);
    };
    ops.moe_gemm = [](const cuda::MoeGemm& a, cuda::Stream s) {
      ++sorted;
      return cuda::ops_table().moe_gemm(a, s);
    };
  }
};

std::function<void(Linear&)> but_routers(const std::function<void(Linear&)>& change) {
  return [=](Linear& l) {
    if (l.name.find("router") == std::string::npos) change(l);
  };
}

TEST(GpuExecutor, runs_mixtures_of_every_encoding_as_the_cpu_does) {
  for (const char* name : {"int2-g32", "int3-g32", "int4-g32-asym", "int4-g32-s8", "int5-g32",
                           "int6-g32", "int8-g32", "nf4-g32", "mxfp4", "fp8e4m3-row", "fp8e5m2-row",
                           "bf16", "f16", "tcq2-g32", "tcq3-g64-s8", "tcq4-row"}) {
    Changed m(but_routers(encoded(parse_encoding(name))), kMixture);
    CountsExperts counting;
    const auto cpu = make_cpu_executor(), gpu = make_gpu_executor(counting.ops, "counting");
    gpu->prepare(m.model);
    EXPECT_LT(distance(m.logits(*gpu), m.logits(*cpu)), 3e-3) << name;
    EXPECT_EQ(counting.sorted, 4) << name;
    m.tokens.resize(5);
    const auto logits = [&](Executor& e) { return window_logits(e, m.model, {m.tokens, 1}); };
    EXPECT_LT(distance(logits(*gpu), logits(*cpu)), 3e-3) << name;
    EXPECT_EQ(counting.pairs, 4) << name;
  }
}

// DeepSeek's sizes of what is cached, so that tensor cores attend.
const std::string kLatent = test::tiny_latent_config(
    {.hidden = 80, .ffn = 48, .layers = 2, .heads = 4, .vocab = 70},
    {.rank = 512, .query_rank = 48, .plain = 32, .rotated = 64, .value = 32});

TEST(GpuExecutor, runs_latent_attention_as_the_cpu_does) {
  static int fused;
  cuda::Ops counting = cuda::ops_table();
  counting.write_latent_kv = [](const cuda::WriteLatentKv& a, cuda::Stream s) {
    ++fused;
    return cuda::ops_table().write_latent_kv(a, s);
  };
  for (const char* name : {"int4-g32", "int8-g32", "bf16"}) {
    Changed m(but_routers(encoded(parse_encoding(name))), kLatent);
    const auto cpu = make_cpu_executor(), gpu = make_gpu_executor(counting, "counting"),
               loose = make_gpu_executor(counting, "unprepared");
    gpu->prepare(m.model);
    const auto expected = m.logits(*cpu);
    fused = 0;
    EXPECT_LT(distance(m.logits(*gpu), expected), 3e-3) << name;
    EXPECT_EQ(fused, 2);
    // By the linears one by one, as calibration runs it.
    EXPECT_LT(distance(m.logits(*loose), expected), 3e-3) << name;
    EXPECT_EQ(fused, 2);
  }
}

// Token by token, by graphs from the second on, with every type of cache.
TEST(GpuExecutor, decodes_with_latent_attention_as_the_cpu_does) {
  Changed m(but_routers(encoded(Encoding::integer(8, 32))), kLatent);
  for (const NumberFormat type : {NumberFormat::kF32, NumberFormat::kF16, NumberFormat::kBF16,
                                  NumberFormat::kInt8, NumberFormat::kE4M3}) {
    const auto cpu = make_cpu_executor(), gpu = emulated();
    gpu->prepare(m.model);
    const int64_t n = 6, row = 0;
    const auto of_cpu = cpu->make_cache(m.model.spec, {1, n, NumberFormat::kF32}),
               of_gpu = gpu->make_cache(m.model.spec, {1, n, type});
    EXPECT_GT(of_gpu->bytes(), 0U);
    for (int64_t t = 0; t < n; ++t) {
      const Segment segment{0, t, 1};
      const Batch batch{std::span(m.tokens).subspan(static_cast<size_t>(t), 1),
                        std::span(&segment, 1)};
      const auto logits = [&](Executor& e, KvCache& cache) {
        const Tensor l = forward_logits(e, m.model, batch, cache, std::span(&row, 1));
        std::vector<float> to(static_cast<size_t>(l.n));
        e.read(l, to);
        return to;
      };
      const double most = type == NumberFormat::kE4M3   ? 0.1
                          : type == NumberFormat::kInt8 ? 3e-2
                                                        : 5e-3;
      EXPECT_LT(distance(logits(*gpu, *of_gpu), logits(*cpu, *of_cpu)), most)
          << kv_type_name(type) << " " << t;
    }
  }
}

// Where experts differ in kind.
TEST(GpuExecutor, runs_mixtures_expert_by_expert_where_it_has_to) {
  const InputEncoding i8{DType::kI8, InputScale::kToken, 0};
  for (const bool rounds : {false, true}) {
    const auto change =
        but_routers(encoded(rounds ? Encoding::integer(8, 0) : Encoding::integer(4, 32),
                            rounds ? i8 : InputEncoding{}));
    Changed same(change, kMixture), other(change, kMixture);
    auto& down = other.model.blocks[1].sublayers[1].moe->experts[3].down;
    std::vector<float> dense(static_cast<size_t>(down.n * down.k));
    reference_decode(down, 0, down.n, dense.data());
    down.terms[0].w = encode(Encoding::dense(DType::kF16), down.n, down.k, dense.data());
    CountsExperts counting;
    const auto cpu = make_cpu_executor(), gpu = emulated(),
               mixed = make_gpu_executor(counting.ops, "counting");
    gpu->prepare(same.model);
    mixed->prepare(other.model);
    const double most = rounds ? 5e-2 : 3e-3;  // rounded inputs may go the other way
    EXPECT_LT(distance(other.logits(*mixed), other.logits(*cpu)), most);
    EXPECT_EQ(counting.sorted + counting.pairs, 2);  // of the layer whose experts are alike
    EXPECT_LT(distance(same.logits(*gpu), other.logits(*mixed)), most);
  }
}

TEST(GpuExecutor, scores_distributions_as_the_cpu) {
  for (const int64_t vocab : {1, 255, 257, 5000}) {
    const int64_t m = 3;
    auto logits = test::uniform_values(m * vocab, 1), base = test::uniform_values(m * vocab, 2);
    for (auto* v : {&logits, &base})
      for (float& x : *v) x *= 30;
    if (vocab > 255) logits[300 % static_cast<size_t>(vocab)] = logits[7] = 40;  // equals
    const std::vector<int32_t> targets = {0, static_cast<int32_t>(vocab - 1),
                                          static_cast<int32_t>(vocab / 2)};
    std::vector<RowScore> results[2], of_base(m);
    const auto cpu = make_cpu_executor(), gpu = emulated();
    for (Executor* e : {cpu.get(), gpu.get()}) {
      auto& to = results[e == gpu.get()];
      to.resize(m);
      const Tensor q = e->buffer(TensorId::kLogits, m, vocab),
                   p = e->buffer(TensorId::kBaseLogits, m, vocab);
      e->write(logits, q);
      e->write(base, p);
      e->score(p, targets, {}, {}, of_base);
      e->score(q, targets, p, of_base, to);
      EXPECT_EQ(of_base[0].divergence, 0);
    }
    for (size_t i = 0; i < m; ++i) {
      const RowScore &a = results[0][i], &b = results[1][i];
      EXPECT_NEAR(b.log_sum, a.log_sum, 1e-6 * std::fabs(a.log_sum));
      EXPECT_EQ(b.target, a.target);
      EXPECT_EQ(b.top, a.top);
      EXPECT_NEAR(b.divergence, a.divergence, 1e-5 * a.divergence + 1e-9);
    }
    logits[static_cast<size_t>(vocab / 2)] = NAN;
    const Tensor q = gpu->buffer(TensorId::kLogits, m, vocab);
    gpu->write(logits, q);
    gpu->score(q, targets, {}, {}, of_base);
    EXPECT_TRUE(std::isnan(of_base[0].log_sum));
  }
}

TEST(GpuExecutor, weighs_what_is_behind_the_likeliest_as_the_cpu) {
  const int64_t vocab = 5000;
  auto logits = test::uniform_values(vocab, 5);
  for (float& x : logits) x *= 12;
  for (size_t i = 0; i < logits.size(); i += 5) logits[i] = logits[i / 2];  // equals
  const auto cpu = make_cpu_executor(), gpu = emulated();
  std::vector<Candidate> top(Executor::kMaxCandidates);
  double mass[2];
  for (Executor* e : {cpu.get(), gpu.get()}) {
    const Tensor x = e->buffer(TensorId::kLogits, 1, vocab);
    e->write(logits, x);
    e->top(x, top);
    mass[e == gpu.get()] = e->mass_behind(x, 0, top.front(), top.back(), 0.8);
  }
  EXPECT_GT(mass[0], 0);
  EXPECT_NEAR(mass[1], mass[0], 1e-12 * mass[0]);
}

// Weights that are held are those of the time of the hold, and forgotten with it.
TEST(GpuExecutor, forgets_at_the_end_of_a_hold_what_came_since) {
  Changed m([](Linear&) {});
  const auto gpu = emulated();
  const auto loose = m.logits(*gpu);
  {
    const WeightCacheScope outer(*gpu);
    EXPECT_EQ(m.logits(*gpu), loose);
    Changed other(encoded(Encoding::integer(2, 32)));
    {
      const WeightCacheScope inner(*gpu);
      EXPECT_NE(other.logits(*gpu), loose);
    }
    EXPECT_EQ(m.logits(*gpu), loose);
  }
  encoded(Encoding::integer(2, 32))(m.model.blocks[0].sublayers[1].mlp->down);
  EXPECT_NE(m.logits(*gpu), loose);
}

TEST(GpuExecutor, turns_heads_by_their_positions_as_the_cpu_does) {
  Changed m([](Linear&) {});
  proto::Rope rope = m.model.spec.layers(0).sublayers(0).attention().rope();
  ASSERT_GT(rope.dims(), 0U);
  const Segment segments[] = {{0, 5, 3}, {1, 0, 1}};
  const int32_t tokens[] = {1, 2, 3, 4};
  const int64_t d = m.model.spec.layers(0).sublayers(0).attention().head_dim();
  const auto values = test::uniform_values(4 * 3 * d, 1);
  for (const bool interleaved : {false, true}) {
    rope.set_interleaved(interleaved);
    const auto turned = [&](Executor& e) {
      const Tensor x = e.buffer(TensorId::kQuery, 4, 3 * d);
      e.write(values, x);
      e.run(RopeOp{&rope, d, {tokens, segments}, x});
      std::vector<float> to(values.size());
      e.read(x, to);
      return to;
    };
    const auto cpu = make_cpu_executor(), gpu = emulated();
    EXPECT_EQ(turned(*gpu), turned(*cpu));
  }
}

TEST(GpuExecutor, adds_up_the_terms_of_a_linear_and_its_bias) {
  Changed m([](Linear& l) {
    if (l.name == "embedding") return;
    const int64_t rank = 5;
    const auto down = test::uniform_values(rank * l.k, 1), up = test::uniform_values(l.n * rank, 2);
    Term t{encode(Encoding::dense(DType::kF32), rank, l.k, down.data()),
           encode(Encoding::dense(DType::kBF16), l.n, rank, up.data())};
    l.terms.push_back(std::move(t));
    l.bias = test::uniform_values(l.n, 3);
  });
  const auto cpu = make_cpu_executor(), gpu = emulated();
  const auto expected = m.logits(*cpu), once = m.logits(*gpu);  // nothing prepared
  EXPECT_LT(distance(once, expected), 3e-3);
  gpu->prepare(m.model);
  EXPECT_EQ(m.logits(*gpu), once);
}

TEST(GpuExecutor, multiplies_many_tokens_by_the_library) {
  Changed m(
      [](Linear& l) {
        encoded(Encoding::integer(4, 32, false))(l);
        l.bias = test::uniform_values(l.n, 3);
      },
      {.hidden = 48, .ffn = 64, .layers = 1, .vocab = 70});
  m.tokens.clear();
  for (int32_t i = 0; i < cuda::kMaxBlockTokens + 3; ++i) m.tokens.push_back(i * 29 % 70);
  m.model.spec.set_context(512);
  cuda::Ops counting = cuda::ops_table();
  static int calls;
  calls = 0;
  counting.cublas_gemm_f16 = [](const cuda::CublasGemmF16& a, cuda::Stream s) {
    ++calls;
    return cuda::ops_table().cublas_gemm_f16(a, s);
  };
  const auto cpu = make_cpu_executor(), gpu = make_gpu_executor(counting, "counting");
  gpu->prepare(m.model);
  EXPECT_LT(distance(m.logits(*gpu), m.logits(*cpu)), 3e-3);
  EXPECT_GE(calls, 7);
}

TEST(GpuExecutor, multiplies_codes_of_8_bits_of_many_tokens_by_the_library) {
  const struct {
    Encoding weights;
    InputEncoding inputs;
    double most;
  } kCases[] = {{Encoding::integer(8, 0), {DType::kI8, InputScale::kToken, 0}, 0},  // the same bits
                {Encoding::fp8(DType::kF8E4M3, ScaleArea::kRow),
                 {DType::kF8E4M3, InputScale::kToken, 0},
                 0.1}};
  for (const auto& c : kCases) {
    Changed m(
        [&](Linear& l) {
          encoded(c.weights, c.inputs)(l);
          l.bias = test::uniform_values(l.n, 3);
        },
        {.hidden = 32, .ffn = 32, .layers = 1, .vocab = 70});
    m.tokens.clear();
    for (int32_t i = 0; i < cuda::kMaxBlockTokens + 3; ++i) m.tokens.push_back(i * 29 % 70);
    m.model.spec.set_context(512);
    cuda::Ops with = cuda::ops_table(), without = with;
    static int calls;
    calls = 0;
    with.cublas_gemm_8 = [](const cuda::CublasGemm8& a, cuda::Stream s) {
      ++calls;
      return cuda::ops_table().cublas_gemm_8(a, s);
    };
    with.has_cublas_gemm_8 = [](bool) { return cuda::ops_table().has_cublas_gemm_8(true); };
    if (!with.has_cublas_gemm_8(true)) GTEST_SKIP() << "no 8-bit floats in cuBLAS";
    without.has_cublas_gemm_8 = [](bool) { return false; };
    const auto gpu = make_gpu_executor(with, "with"), other = make_gpu_executor(without, "without");
    gpu->prepare(m.model);
    other->prepare(m.model);
    EXPECT_LE(distance(m.logits(*gpu), m.logits(*other)), c.most) << to_string(c.weights);
    EXPECT_GE(calls, 7);
  }
}

TEST(GpuExecutor, attends_from_prompts_by_tiles_where_there_are_some) {
  Changed m(encoded(Encoding::integer(6, 32)),
            {.hidden = 128, .layers = 2, .heads = 2, .kv_heads = 1, .vocab = 70});
  m.tokens.clear();
  for (int32_t i = 0; i < 40; ++i) m.tokens.push_back(i * 29 % 70);
  cuda::Ops counting = cuda::ops_table();
  static int calls;
  calls = 0;
  counting.prefill_attention = [](const cuda::PrefillAttention& a, cuda::Stream s) {
    ++calls;
    return cuda::ops_table().prefill_attention(a, s);
  };
  const auto cpu = make_cpu_executor(), gpu = make_gpu_executor(counting, "counting");
  gpu->prepare(m.model);
  const auto n = static_cast<int64_t>(m.tokens.size());
  const auto logits = [&](Executor& e) {
    const auto cache = e.make_cache(m.model.spec, {1, n, NumberFormat::kF16});
    const Segment all[] = {{0, 0, n}};
    const int64_t rows[] = {7, n - 1};
    std::vector<float> to(2 * static_cast<size_t>(m.model.spec.vocab()));
    e.read(forward_head(e, m.model, forward_hidden(e, m.model, {m.tokens, all}, *cache), rows), to);
    return to;
  };
  EXPECT_LT(distance(logits(*gpu), logits(*cpu)), 3e-3);
  EXPECT_EQ(calls, 2);
}

// More tokens than the block kernel takes, with heads that attend by tiles.
TEST(GpuExecutor, gives_the_same_bits_however_a_prompt_is_cut_where_that_is_asked_for) {
  Changed m(encoded(Encoding::integer(4, 32)),
            test::tiny_config({.hidden = 128, .ffn = 64, .layers = 1, .heads = 2, .vocab = 70}));
  m.tokens.clear();
  for (int32_t i = 0; i < cuda::kMaxBlockTokens + 4; ++i) m.tokens.push_back(i * 29 % 70);
  m.model.spec.set_context(512);
  const auto n = static_cast<int64_t>(m.tokens.size());
  const auto last = [&](bool invariant, const std::vector<int64_t>& cuts) {
    const auto gpu = make_gpu_executor(cuda::ops_table(), "emulated", invariant);
    gpu->prepare(m.model);
    const auto cache = gpu->make_cache(m.model.spec, {1, n, NumberFormat::kF16});
    std::vector<float> logits(static_cast<size_t>(m.model.spec.vocab()));
    int64_t begin = 0;
    for (const int64_t end : cuts) {
      const Segment segment{0, begin, end - begin};
      const Batch batch{std::span(m.tokens).subspan(static_cast<size_t>(begin),
                                                    static_cast<size_t>(segment.count)),
                        std::span(&segment, 1)};
      const int64_t row = segment.count - 1;
      gpu->read(forward_logits(*gpu, m.model, batch, *cache, std::span(&row, 1)), logits);
      begin = end;
    }
    return logits;
  };
  const std::vector<int64_t> whole = {n}, cut = {3, 103, n - 1, n};
  EXPECT_EQ(last(true, whole), last(true, cut));
  EXPECT_NE(last(false, whole), last(true, whole));
}

std::string config_of(const std::string& kind) {
  return kind == "mixture"  ? kMixture
         : kind == "latent" ? kLatent
                            : test::tiny_config({.hidden = 80, .vocab = 70});
}

// Keys and values are stored, and attended to, by an operation each; the composite has one kernel
// that norms, rotates and stores.
TEST(GpuExecutor, attends_by_primitives_as_by_composites_with_plain_and_rotated_caches) {
  for (const char* config : {"plain", "latent"}) {
    Changed m(encoded(Encoding::dense(DType::kF16)), config_of(config));
    const int64_t n = 6;
    for (const NumberFormat type : {NumberFormat::kF16, NumberFormat::kInt8}) {
      const auto gpu = emulated();
      ForwardingExecutor primitives(*gpu);
      const auto logits = [&](Executor& e) {
        const auto cache = e.make_cache(m.model.spec, {1, n, type});
        std::vector<float> to(m.model.spec.vocab());
        for (const auto& [begin, count] : {std::pair(int64_t{0}, n - 2), {n - 2, 1}, {n - 1, 1}}) {
          const Segment segment{0, begin, count};
          const int64_t last = count - 1;
          const Batch batch{
              std::span(m.tokens).subspan(static_cast<size_t>(begin), static_cast<size_t>(count)),
              std::span(&segment, 1)};
          e.read(forward_logits(e, m.model, batch, *cache, std::span(&last, 1)), to);
        }
        return to;
      };
      const double most = type == NumberFormat::kInt8 ? 3e-2 : 3e-3;
      EXPECT_LT(distance(logits(primitives), logits(*gpu)), most)
          << config << " " << kv_type_name(type);
    }
  }
}

class GpuBatches : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Models, GpuBatches, testing::Values("plain", "mixture", "latent"));

TEST_P(GpuBatches, decode_to_the_bits_of_prefill) {
  Changed m(encoded(Encoding::integer(4, 64, false)), config_of(GetParam()));
  for (const KvTypes types :
       {KvTypes(NumberFormat::kF16), KvTypes(NumberFormat::kInt8, NumberFormat::kE4M3)}) {
    const auto gpu = emulated();
    gpu->prepare(m.model);
    const auto n = static_cast<int64_t>(m.tokens.size());
    const auto vocab = static_cast<size_t>(m.model.spec.vocab());
    const auto run = [&](KvCache& cache, std::span<const int32_t> tokens,
                         std::span<const Segment> segments, std::span<const int64_t> rows) {
      const Tensor hidden = forward_hidden(*gpu, m.model, {tokens, segments}, cache);
      std::vector<float> logits(rows.size() * vocab);
      gpu->read(forward_head(*gpu, m.model, hidden, rows), logits);
      return logits;
    };
    const auto whole = gpu->make_cache(m.model.spec, {1, n, types});
    const Segment all[] = {{0, 0, n}};
    std::vector<int64_t> rows(m.tokens.size());
    std::iota(rows.begin(), rows.end(), 0);
    const auto expected = run(*whole, m.tokens, all, rows);
    const auto cache = gpu->make_cache(m.model.spec, {2, n, types});
    for (int64_t t = 0; t < n; ++t) {
      const int32_t both[] = {m.tokens[static_cast<size_t>(n - 1 - t)],
                              m.tokens[static_cast<size_t>(t)]};
      const Segment segments[] = {{0, t, 1}, {1, t, 1}};
      const int64_t second[] = {1};
      const auto logits = run(*cache, both, segments, second);
      ASSERT_TRUE(std::equal(logits.begin(), logits.end(),
                             expected.begin() + t * static_cast<int64_t>(vocab)))
          << t << ", " << to_string(types);
    }
  }
}

class GpuGraphs : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Models, GpuGraphs, testing::Values("plain", "mixture", "latent"));

TEST_P(GpuGraphs, replay_decoding_steps_to_the_same_bits) {
  Changed m(encoded(Encoding::integer(4, 64)), config_of(GetParam()));
  static int launches, graphs;
  launches = graphs = 0;
  cuda::Ops counting = cuda::ops_table();
  counting.launch_graph = [](cuda::Graph g, cuda::Stream s) {
    ++launches;
    return cuda::ops_table().launch_graph(g, s);
  };
  counting.end_graph = [](cuda::Stream s, cuda::Graph* to) {
    ++graphs;
    return cuda::ops_table().end_graph(s, to);
  };
  const auto vocab = static_cast<size_t>(m.model.spec.vocab());
  const auto run = [&](Executor& e, KvCache& cache, bool pass, std::vector<Segment> segments) {
    std::vector<int32_t> tokens;
    std::vector<int64_t> rows;
    for (const auto& s : segments) {
      for (int64_t i = 0; i < s.count; ++i)
        tokens.push_back(m.tokens[static_cast<size_t>((s.begin + i + s.slot) % 12)]);
      rows.push_back(static_cast<int64_t>(tokens.size()) - 1);
    }
    std::vector<float> logits(rows.size() * vocab);
    const Batch batch{tokens, segments};
    e.read(pass ? forward_logits(e, m.model, batch, cache, rows)
                : forward_head(e, m.model, forward_hidden(e, m.model, batch, cache), rows),
           logits);
    return logits;
  };
  for (const bool prepared : {false, true}) {
    const auto gpu = make_gpu_executor(counting, "counting"), plain = emulated();
    if (prepared) {
      gpu->prepare(m.model);
      plain->prepare(m.model);
    }
    const auto cache = gpu->make_cache(m.model.spec, {2, 40, NumberFormat::kF16}),
               other = plain->make_cache(m.model.spec, {2, 40, NumberFormat::kF16});
    const auto same = [&](const std::vector<Segment>& segments) {
      EXPECT_EQ(run(*gpu, *cache, true, segments), run(*plain, *other, false, segments));
    };
    same({{0, 0, 5}});
    for (int64_t p = 5; p < 9; ++p) same({{0, p, 1}});
    EXPECT_EQ(launches, prepared ? 3 : 0);
    same({{0, 9, 20}, {1, 0, 3}});  // memory grows
    for (int64_t p = 29; p < 33; ++p) same({{0, p, 1}});
    for (int64_t p = 33; p < 36; ++p) same({{0, p, 1}, {1, p - 30, 1}});
    EXPECT_EQ(launches, prepared ? 3 + 3 + 2 : 0);
    EXPECT_EQ(graphs, prepared ? 3 : 0);
  }
}

TEST(GpuExecutor, refuses_what_it_has_no_kernel_or_no_room_for) {
  Changed m([](Linear&) {});
  EXPECT_THROW(emulated()->make_cache(m.model.spec, {1, 10, NumberFormat::kInt4}), Error);
  {
    const auto gpu = emulated();
    const auto large = gpu->make_cache(m.model.spec, {2, 32, NumberFormat::kF16}),
               little = gpu->make_cache(m.model.spec, {1, 16, NumberFormat::kF16});
    const int32_t tokens[] = {1};
    for (const Segment& s : {Segment{0, 20, 1}, Segment{1, 0, 1}}) {
      const Segment segments[] = {s};
      forward_hidden(*gpu, m.model, {tokens, segments}, *large);
      EXPECT_THROW(forward_hidden(*gpu, m.model, {tokens, segments}, *little), Error);
    }
  }
  cuda::Ops small = cuda::ops_table();
  small.memory = [](uint64_t* free, uint64_t* total) {
    *free = 1000;
    *total = 2000;
    return cuda::Status(nullptr);
  };
  const auto gpu = make_gpu_executor(small, "small");
  try {
    gpu->prepare(m.model);
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kMemory);
    EXPECT_THAT(e.what(), testing::HasSubstr("not one layer fits"));
  }
}

// Takes what was planned, neither more nor, but for what is kept back, less.
class GpuMemoryPlan : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Models, GpuMemoryPlan, testing::Values("plain", "mixture", "latent"));

TEST_P(GpuMemoryPlan, is_what_is_taken) {
  static uint64_t live, peak;
  static std::map<void*, uint64_t> sizes;
  cuda::Ops counting = cuda::ops_table();
  counting.allocate = [](uint64_t bytes, void** to) {
    const cuda::Status bad = cuda::ops_table().allocate(bytes, to);
    sizes[*to] = bytes;
    live += bytes;
    peak = std::max(peak, live);
    return bad;
  };
  counting.release = [](void* p) {
    if (p != nullptr) live -= sizes.extract(p).mapped();
    cuda::ops_table().release(p);
  };
  const auto change = [](Linear& l) {
    if (l.name.find("down") != std::string::npos)
      encoded(Encoding::integer(8, 0), {DType::kI8, InputScale::kToken, 0})(l);
    else
      encoded(Encoding::integer(4, 32, false))(l);
    if (GetParam() == std::string("plain")) l.bias = test::uniform_values(l.n, 3);
  };
  Changed m(change, config_of(GetParam()));
  for (const int64_t first : {0, 1}) {
    live = peak = 0;
    const ModelUse use{.cache = {2, 40, NumberFormat::kInt8}, .tokens = 24, .first_block = first};
    const auto gpu = make_gpu_executor(counting, "counting");
    const MemoryPlan plan = gpu->prepare(m.model, use);
    EXPECT_EQ(plan.weights, live);
    EXPECT_EQ(plan.weights + plan.loading, peak);
    EXPECT_LE(plan.needed(), plan.available);
    if (first > 0) continue;
    const auto cache = gpu->make_cache(m.model.spec, use.cache);
    EXPECT_EQ(plan.weights + plan.cache, live);
    m.tokens.resize(24);
    const Segment all[] = {{0, 0, 24}};
    const int64_t last[] = {23};
    forward_logits(*gpu, m.model, {m.tokens, all}, *cache, last);
    std::vector<Candidate> candidates(2 * m.model.spec.vocab());
    for (int64_t p = 24; p < 40; ++p) {
      const Segment both[] = {{0, p, 1}, {1, p - 24, 1}};
      const int64_t rows[] = {0, 1};
      const Batch batch{std::span(m.tokens).first(2), both};
      gpu->top(forward_logits(*gpu, m.model, batch, *cache, rows), candidates);
    }
    EXPECT_LE(live, plan.weights + plan.cache + plan.activations);
    EXPECT_GE(live + (uint64_t{64} << 20), plan.weights + plan.cache + plan.activations);
  }
}

TEST(GpuMemory, that_is_too_little_is_told_with_the_layers_that_fit) {
  Changed m(encoded(Encoding::integer(4, 32)), {.hidden = 64, .layers = 6, .vocab = 70});
  const ModelUse use{.cache = {.length = 32}, .tokens = 16};
  static uint64_t there;
  cuda::Ops small = cuda::ops_table();
  small.memory = [](uint64_t* free, uint64_t* total) {
    *free = *total = there;
    return cuda::Status();
  };
  there = uint64_t{1} << 30;
  ModelUse part = use;
  part.first_block = 2;
  there = plan_gpu_memory(small, m.model, part).needed();
  const auto gpu = make_gpu_executor(small, "small");
  try {
    gpu->prepare(m.model, use);
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kMemory);
    EXPECT_THAT(e.what(), testing::HasSubstr("--gpu-layers 4 fits"));
  }
  const auto split = make_split_executor(make_cpu_executor(), make_gpu_executor(small, "small"), 4);
  EXPECT_EQ(split->prepare(m.model, use).needed(), there);
}

// Passes of fewer tokens, where no number was asked for.
TEST(GpuMemory, that_is_little_has_shorter_passes) {
  Changed m(encoded(Encoding::integer(4, 32)), {.hidden = 64, .layers = 2, .vocab = 70});
  static uint64_t there;
  cuda::Ops small = cuda::ops_table();
  small.memory = [](uint64_t* free, uint64_t* total) {
    *free = *total = there;
    return cuda::Status();
  };
  there = uint64_t{1} << 36;
  const ModelUse open{.cache = {.length = 8192}};
  const auto plan = [&](const ModelUse& use) { return plan_gpu_memory(small, m.model, use); };
  const auto prepared = [&](const ModelUse& use) {
    return make_gpu_executor(small, "small")->prepare(m.model, use).tokens;
  };
  EXPECT_EQ(prepared(open), 4096);
  EXPECT_EQ(prepared({.cache = {.length = 8192}, .tokens = 300}), 300);
  there = plan({.cache = {.length = 8192}, .tokens = 1024}).needed();
  EXPECT_EQ(prepared(open), 1024);
  EXPECT_THROW(prepared({.cache = {.length = 8192}, .tokens = 4096}), Error);
  there = plan({.cache = {.length = 8192}, .tokens = 512}).needed() - 1;
  EXPECT_THROW(prepared(open), Error);
}

class SplitModels : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Models, SplitModels, testing::Values("plain", "mixture", "latent"));

TEST_P(SplitModels, give_the_logits_of_either_whatever_is_where) {
  Changed m(encoded(Encoding::integer(4, 32, false)), config_of(GetParam()));
  const auto n = static_cast<int64_t>(m.tokens.size());
  const auto vocab = static_cast<size_t>(m.model.spec.vocab());
  const auto logits = [&](Executor& e) {
    e.prepare(m.model, {.cache = {1, n}});
    const auto cache = e.make_cache(m.model.spec, {1, n, NumberFormat::kF32});
    std::vector<float> all;
    for (int64_t p = 0; p < n; p = p < 9 ? p + 3 : p + 1) {
      const int64_t count = p < 9 ? 3 : 1, last = count - 1;
      const Segment s[] = {{0, p, count}};
      const auto tokens =
          std::span(m.tokens).subspan(static_cast<size_t>(p), static_cast<size_t>(count));
      std::vector<float> some(vocab);
      e.read(forward_logits(e, m.model, {tokens, s}, *cache, std::span(&last, 1)), some);
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  };
  const auto cpu = make_cpu_executor(), gpu = emulated();
  const auto of_cpu = logits(*cpu), of_gpu = logits(*gpu);
  for (const int64_t layers : {0, 1, 2, 3, 9}) {
    const auto split = make_split_executor(make_cpu_executor(), emulated(), layers);
    const auto got = logits(*split);
    EXPECT_LT(distance(got, of_cpu), 3e-3) << layers;
    if (layers == 0) {
      EXPECT_EQ(got, of_cpu);
    } else if (layers >= 3) {
      EXPECT_EQ(got, of_gpu);
    }
  }
}

TEST(SplitExecutor, shows_tensors_in_the_memory_of_its_algebra) {
  auto first = make_cpu_executor(), last = emulated();
  Executor& of_algebra = *last;
  const auto split = make_split_executor(std::move(first), std::move(last), 1);
  const Tensor x = split->buffer(TensorId::kHidden, 2, 3), y = split->buffer(TensorId::kLast, 1, 3);
  const std::vector<float> numbers = {1, 2, 3, 4, 5, 6};
  split->write(numbers, x);
  const MatrixRef<float> view = split->view(x);
  EXPECT_EQ(view.data, of_algebra.view(x).data);
  EXPECT_EQ(&split->algebra(), &of_algebra.algebra());
  std::vector<float> found(6);
  split->algebra().download(view, found.data());
  EXPECT_EQ(found, numbers);
  // What work beside the operations left there is what the next operation reads.
  const std::vector<float> others = {6, 5, 4, 3, 2, 1};
  split->algebra().upload(others.data(), split->view(x));
  split->run(GatherOp{x, {1}, y});
  found.resize(3);
  split->read(y, found);
  EXPECT_EQ(found, std::vector<float>({3, 2, 1}));
}

INSTANTIATE_TEST_SUITE_P(Families, GpuFamilies, testing::ValuesIn(families()),
                         [](const auto& i) { return i.param; });

}  // namespace
}  // namespace pith
