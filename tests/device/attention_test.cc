// The cache and attention over it, against softmax(q k) v in f64 over what a cache of that type
// holds.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/rng.h"
#include "runtime/cuda/device_memory.h"
#include "runtime/cuda_kernels/ops_table.h"
#include "tests/support/encodings.h"

namespace pith {
namespace {

struct Shape {
  int64_t heads, kv_heads, d, window;
  float cap = 0;
  bool sinks = false;
  bool latent = false;  // keys are values
};

// What a row of a cache stands for.
std::vector<double> stored(NumberFormat type, const float* x, int64_t d) {
  std::vector<double> to;
  float top = 0;
  for (int64_t i = 0; i < d; ++i) top = std::max(top, std::fabs(x[i]));
  for (int64_t i = 0; i < d; ++i) {
    float v = x[i];
    if (type == NumberFormat::kF16) v = f16_to_f32(f32_to_f16(v));
    if (type == NumberFormat::kBF16) v = bf16_to_f32(f32_to_bf16(v));
    const float s = top / (type == NumberFormat::kInt8 ? 127.0f : 448.0f);
    if (type == NumberFormat::kInt8) v = s > 0 ? std::nearbyint(v / s) * s : 0;
    if (type == NumberFormat::kE4M3) v = s > 0 ? f8e4m3_to_f32(f32_to_f8e4m3(v / s)) * s : 0;
    to.push_back(static_cast<double>(v));
  }
  return to;
}

// Sequences of some length each, all but the last `fresh` tokens of each appended before; pages lie
// in no order.
class Sequences {
 public:
  Sequences(const Shape& shape, NumberFormat keys, NumberFormat values,
            std::vector<int64_t> lengths)
      : shape_(shape),
        keys_(keys),
        values_(values),
        device_(cuda::ops_table()),
        lengths_(std::move(lengths)) {
    const int64_t longest = *std::ranges::max_element(lengths_),
                  slots = static_cast<int64_t>(lengths_.size());
    pages_per_slot_ = (longest + cuda::kPageTokens - 1) / cuda::kPageTokens;
    std::vector<int32_t> pages(static_cast<size_t>(slots * pages_per_slot_));
    std::iota(pages.begin(), pages.end(), 0);
    Rng rng(9);
    for (size_t i = pages.size(); i > 1; --i) std::swap(pages[i - 1], pages[rng.next() % i]);
    pages_ = GpuBuffer(device_, pages.data(), pages.size() * 4);
    const uint64_t rows = pages.size() * static_cast<uint64_t>(cuda::kPageTokens * shape.kv_heads);
    const auto plane = [&](NumberFormat type, GpuBuffer& codes, GpuBuffer& scales) {
      const uint64_t size = static_cast<uint64_t>(bits_of(type) / 8);
      codes = GpuBuffer(device_, rows * static_cast<uint64_t>(shape.d) * size);
      if (bits_of(type) == 8) scales = GpuBuffer(device_, rows * 4);
      return cuda::CachePlane{type, codes.data(), scales.data<float>()};
    };
    const auto no_values = [&] { return cuda::CachePlane{values, nullptr, nullptr}; };
    cache_ = {plane(keys, key_rows_, key_scales_),
              shape.latent ? no_values() : plane(values, value_rows_, value_scales_),
              pages_.data<int32_t>(),
              pages_per_slot_,
              shape.kv_heads,
              shape.d};
    for (size_t s = 0; s < lengths_.size(); ++s) {
      const int64_t n = lengths_[s] * shape.kv_heads * shape.d;
      k_.push_back(test::uniform_values(n, 3 * s));
      v_.push_back(shape.latent ? k_.back() : test::uniform_values(n, 3 * s + 1));
      q_.push_back(test::uniform_values(lengths_[s] * shape.heads * shape.d, 3 * s + 2));
    }
    if (!shape.sinks) return;
    sinks_ = test::uniform_values(shape.heads, 77, 3);
    on_sinks_ = GpuBuffer(device_, sinks_.data(), sinks_.size() * 4);
  }

  struct Token {
    size_t sequence;
    int64_t position;
  };

  // Keys and values of every position times what it gives.
  template <class F>
  void scale_rows(F by_position) {
    for (auto* rows : {&k_, &v_}) {
      for (auto& of : *rows) {
        const size_t row = static_cast<size_t>(shape_.kv_heads * shape_.d);
        for (size_t i = 0; i < of.size(); ++i) of[i] *= by_position(static_cast<int64_t>(i / row));
      }
    }
  }

  // Attends from tokens that were appended, which follow each other, by tiles of up to `most`.
  std::vector<float> run_tiles(const std::vector<Token>& tokens, int64_t most) {
    std::vector<cuda::QueryTile> tiles;
    std::vector<float> q;
    for (size_t i = 0; i < tokens.size(); ++i) {
      const Token& t = tokens[i];
      const bool follows =
          i > 0 && tokens[i - 1].sequence == t.sequence && tiles.back().count < most;
      if (!follows) {
        tiles.push_back({static_cast<int32_t>(i), 0, static_cast<int32_t>(t.sequence),
                         static_cast<int32_t>(t.position)});
      }
      ++tiles.back().count;
      const auto from = q_[t.sequence].begin() + t.position * shape_.heads * shape_.d;
      q.insert(q.end(), from, from + shape_.heads * shape_.d);
    }
    std::vector<float> out(q.size(), NAN);
    const GpuBuffer of_q(device_, q.data(), q.size() * 4), to(device_, out.data(), out.size() * 4),
        of_tiles(device_, tiles.data(), tiles.size() * sizeof(cuda::QueryTile));
    device_.run(&cuda::Ops::prefill_attention,
                {cache_, of_tiles.data<cuda::QueryTile>(), static_cast<int64_t>(tiles.size()),
                 of_q.data<float>(), shape_.heads, shape_.window, 0.3f, shape_.cap,
                 on_sinks_.data<float>(), to.data<float>()});
    device_.download(out.data(), to.data(), out.size() * 4);
    return out;
  }

  // Appends those tokens and attends from them: [tokens, heads * d]; or appends them alone.
  std::vector<float> run(const std::vector<Token>& tokens, bool attends = true) {
    std::vector<int32_t> slots, at;
    std::vector<float> q, k, v;
    int64_t longest = 0;
    for (const Token& t : tokens) {
      slots.push_back(static_cast<int32_t>(t.sequence));
      at.push_back(static_cast<int32_t>(t.position));
      longest = std::max(longest, t.position + 1);
      const auto some = [&](const std::vector<float>& from, int64_t n, std::vector<float>& to) {
        to.insert(to.end(), from.begin() + t.position * n, from.begin() + (t.position + 1) * n);
      };
      some(q_[t.sequence], shape_.heads * shape_.d, q);
      some(k_[t.sequence], shape_.kv_heads * shape_.d, k);
      some(v_[t.sequence], shape_.kv_heads * shape_.d, v);
    }
    const auto m = static_cast<int64_t>(tokens.size());
    const auto floats = [&](const std::vector<float>& x) {
      return GpuBuffer(device_, x.data(), x.size() * 4);
    };
    const GpuBuffer of_q = floats(q), of_k = floats(k), of_v = floats(v),
                    of_slots(device_, slots.data(), slots.size() * 4),
                    of_at(device_, at.data(), at.size() * 4);
    const cuda::Positions positions{of_slots.data<int32_t>(), of_at.data<int32_t>(), m};
    const int64_t chunks = cuda::chunks_within(longest, shape_.kv_heads);
    std::vector<float> out(q.size());
    const std::vector<float> nan(
        static_cast<size_t>(m * shape_.heads * chunks * cuda::chunk_floats(shape_.d)), NAN);
    const GpuBuffer sums = floats(nan), to(device_, out.size() * 4),
                    arrived(device_, static_cast<uint64_t>(m * (shape_.heads + 1)) * 4);
    device_.run(&cuda::Ops::write_kv, {cache_,
                                       positions,
                                       of_q.data<float>(),
                                       shape_.heads,
                                       of_k.data<float>(),
                                       of_v.data<float>(),
                                       nullptr,
                                       nullptr,
                                       0,
                                       false,
                                       false,
                                       {},
                                       {}});
    if (!attends) return {};
    device_.run(&cuda::Ops::decode_attention, {cache_,
                                               positions,
                                               of_q.data<float>(),
                                               shape_.heads,
                                               shape_.window,
                                               0.3f,
                                               shape_.cap,
                                               on_sinks_.data<float>(),
                                               chunks,
                                               sums.data<float>(),
                                               to.data<float>(),
                                               arrived.data<int32_t>(),
                                               halves_,
                                               {}});
    device_.download(out.data(), to.data(), out.size() * 4);
    std::vector<int32_t> left(arrived.bytes() / 4);
    device_.download(left.data(), arrived.data(), arrived.bytes());
    EXPECT_THAT(left, testing::Each(0));
    return out;
  }

  // What run() leaves for a product is what the kernel for that makes of its result.
  void expect_inputs(const std::vector<Token>& tokens, NumberFormat round) {
    const auto m = static_cast<int64_t>(tokens.size());
    const int64_t n = shape_.heads * shape_.d, stride = (n + 127) / 128 * 128;
    const auto bytes = static_cast<uint64_t>(m * stride * 2);
    const GpuBuffer values(device_, bytes), scales(device_, static_cast<uint64_t>(m) * 4),
        other_values(device_, bytes), other_scales(device_, static_cast<uint64_t>(m) * 4);
    halves_ = {values.data<uint16_t>(), stride, scales.data<float>(), m, round, 0};
    const auto out = run(tokens);
    const GpuBuffer x(device_, out.data(), out.size() * 4);
    device_.run(&cuda::Ops::to_half,
                {x.data<float>(),
                 n,
                 {other_values.data<uint16_t>(), stride, other_scales.data<float>(), m, round, 0}});
    halves_ = {};
    std::vector<uint16_t> a(static_cast<size_t>(m * stride)), b(a.size());
    std::vector<float> s(static_cast<size_t>(m)), u(s.size());
    device_.download(a.data(), values.data(), bytes);
    device_.download(b.data(), other_values.data(), bytes);
    device_.download(s.data(), scales.data(), scales.bytes());
    device_.download(u.data(), other_scales.data(), scales.bytes());
    EXPECT_EQ(a, b);
    EXPECT_EQ(s, u);
  }

  std::vector<double> expected(const Token& t) const {
    std::vector<double> out;
    const int64_t d = shape_.d, group = shape_.heads / shape_.kv_heads;
    for (int64_t h = 0; h < shape_.heads; ++h) {
      const float* q = q_[t.sequence].data() + (t.position * shape_.heads + h) * d;
      const int64_t first =
          shape_.window > 0 ? std::max<int64_t>(0, t.position - shape_.window + 1) : 0;
      std::vector<double> sum(static_cast<size_t>(d));
      double total =
          shape_.sinks ? std::exp(static_cast<double>(sinks_[static_cast<size_t>(h)])) : 0;
      for (int64_t p = first; p <= t.position; ++p) {
        const int64_t row = (p * shape_.kv_heads + h / group) * d;
        const auto k = stored(keys_, k_[t.sequence].data() + row, d),
                   v = stored(values_, v_[t.sequence].data() + row, d);
        double score = 0;
        for (size_t i = 0; i < k.size(); ++i) score += static_cast<double>(q[i]) * k[i];
        score *= 0.3;
        const auto cap = static_cast<double>(shape_.cap);
        if (cap > 0) score = cap * std::tanh(score / cap);
        const double e = std::exp(score);
        total += e;
        for (size_t i = 0; i < v.size(); ++i) sum[i] += e * v[i];
      }
      for (const double s : sum) out.push_back(s / total);
    }
    return out;
  }

  std::vector<Token> all() const {
    std::vector<Token> tokens;
    for (size_t s = 0; s < lengths_.size(); ++s)
      for (int64_t p = 0; p < lengths_[s]; ++p) tokens.push_back({s, p});
    return tokens;
  }

  // The last token, once all before it are there.
  void expect_last_right() {
    auto tokens = all();
    const std::vector<Token> last(tokens.end() - 1, tokens.end());
    tokens.pop_back();
    run(tokens, false);
    expect_right(last, run(last));
  }

  // Compares the outputs of each head, from column `first` on.
  void expect_right(const std::vector<Token>& tokens, const std::vector<float>& out,
                    double most = 3e-6, int64_t first = 0) const {
    size_t i = 0;
    for (const Token& t : tokens) {
      for (const double v : expected(t)) {
        const auto column = static_cast<int64_t>(i) % shape_.d;
        if (column >= first) {
          ASSERT_NEAR(out[i], v, most)
              << "sequence " << t.sequence << ", position " << t.position << ", column " << column;
        }
        ++i;
      }
    }
  }

 private:
  const Shape shape_;
  const NumberFormat keys_, values_;
  GpuDevice device_;
  std::vector<int64_t> lengths_;
  int64_t pages_per_slot_;
  GpuBuffer pages_, key_rows_, key_scales_, value_rows_, value_scales_;
  cuda::Cache cache_;
  cuda::HalfInputs halves_{};
  std::vector<float> sinks_;
  GpuBuffer on_sinks_;
  std::vector<std::vector<float>> q_, k_, v_;
};

TEST(GpuAttention, is_that_of_the_cached_numbers_for_every_pair_of_types) {
  constexpr NumberFormat kTypes[] = {NumberFormat::kF32, NumberFormat::kF16, NumberFormat::kBF16,
                                     NumberFormat::kInt8, NumberFormat::kE4M3};
  for (const NumberFormat keys : kTypes) {
    for (const NumberFormat values : kTypes) {
      Sequences s({4, 2, 16, 0}, keys, values, {20, 3});
      s.expect_right(s.all(), s.run(s.all()));
      if (HasFatalFailure()) return;
    }
  }
}

TEST(GpuAttention, holds_for_every_shape) {
  for (const Shape& shape :
       {Shape{1, 1, 64, 0}, Shape{6, 2, 80, 0}, Shape{8, 1, 96, 5}, Shape{2, 2, 128, 17},
        Shape{3, 1, 256, 0}, Shape{4, 4, 4, 1}, Shape{16, 2, 64, 3}, Shape{4, 1, 160, 0},
        Shape{2, 1, 64, 9, 0.5f}, Shape{4, 2, 32, 0, 0, true}, Shape{8, 1, 256, 0, 2, true}}) {
    Sequences s(shape, NumberFormat::kF16, NumberFormat::kF16, {35});
    s.expect_right(s.all(), s.run(s.all()));
    if (HasFatalFailure()) return;
  }
}

TEST(GpuAttention, joins_chunks_of_long_sequences_and_leaves_out_those_before_the_window) {
  for (const int64_t window : {int64_t{0}, int64_t{40}, int64_t{600}}) {
    Sequences s({2, 1, 8, window, 0, window == 0}, NumberFormat::kF16, NumberFormat::kInt8,
                {cuda::kChunkKeys * 2 + 30});
    s.expect_last_right();
    if (HasFatalFailure()) return;
  }
}

TEST(GpuAttention, has_longer_chunks_where_there_would_be_too_many) {
  for (const int64_t window : {int64_t{0}, int64_t{300}}) {
    Sequences s({8, 8, 8, window}, NumberFormat::kInt8, NumberFormat::kF16, {8192 + 600});
    s.expect_last_right();
    if (HasFatalFailure()) return;
  }
}

TEST(GpuAttention, has_as_many_chunks_as_the_longest_sequence_may_need) {
  for (const int64_t heads : {1, 2, 4, 8, 32}) {
    for (int64_t longest = 1; longest < 200000; longest += 997) {
      const int64_t within = cuda::chunks_within(longest, heads);
      for (int64_t keys = longest; keys > 0; keys /= 2) {
        const int64_t size = cuda::chunk_keys(keys, heads);
        EXPECT_EQ(size % cuda::kChunkKeys, 0);
        EXPECT_LE((keys + size - 1) / size, within);
      }
    }
  }
}

TEST(GpuAttention, leaves_what_a_gemm_takes) {
  for (const auto round : {NumberFormat::kF16, NumberFormat::kInt8, NumberFormat::kE4M3}) {
    Sequences s({6, 2, 20, 0}, NumberFormat::kF16, NumberFormat::kF16, {cuda::kChunkKeys + 9, 3});
    s.expect_inputs(s.all(), round);
  }
}

TEST(GpuAttention,
     of_a_token_does_not_depend_on_what_else_is_in_the_batch_nor_on_the_order_of_threads) {
  const auto make = [] {
    return Sequences({4, 2, 32, 0}, NumberFormat::kF16, NumberFormat::kE4M3, {30, 18});
  };
  cuda::set_emulation_seed(1);
  auto together = make();
  const auto all = together.all();
  const auto expected = together.run(all);
  cuda::set_emulation_seed(2);
  auto apart = make();
  for (size_t i = 0; i < all.size(); ++i) {
    const auto one = apart.run({all[i]});
    ASSERT_TRUE(
        std::equal(one.begin(), one.end(), expected.begin() + static_cast<int64_t>(i) * 128))
        << i;
  }
}

TEST(GpuAttention, of_tiles_is_the_same_but_for_the_rounding_to_f16) {
  constexpr NumberFormat kTypes[] = {NumberFormat::kF16, NumberFormat::kInt8, NumberFormat::kE4M3};
  for (const NumberFormat keys : kTypes) {
    for (const NumberFormat values : kTypes) {
      Sequences s({2, 1, 64, 0}, keys, values, {70, 3});
      s.run(s.all(), false);
      s.expect_right(s.all(), s.run_tiles(s.all(), 64), 2e-3);
      if (HasFatalFailure()) return;
    }
  }
}

// 8-bit caches of such rows have scales that no f16 holds.
TEST(GpuAttention, holds_for_rows_of_every_size) {
  const auto largest = [](int step) {
    return [step](int64_t p) { return std::ldexp(1.0f, static_cast<int>(p * step % 40) - 38); };
  };
  for (const NumberFormat type : {NumberFormat::kInt8, NumberFormat::kE4M3}) {
    for (const int step : {0, 1, 7, 39}) {
      Sequences s({4, 2, 64, 0}, type, type, {90});
      s.scale_rows(largest(step));
      const auto all = s.all();
      s.run(all, false);
      const auto by_pages = s.run({all.back()}), by_tiles = s.run_tiles({all.back()}, 64);
      const double most = step == 0 ? 0x1p-38 : 2;
      s.expect_right({all.back()}, by_pages, most * 3e-6);
      s.expect_right({all.back()}, by_tiles, most * 2e-3);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(GpuAttention, of_tiles_holds_for_every_shape) {
  for (const Shape& shape : {Shape{2, 2, 80, 0}, Shape{3, 1, 96, 9}, Shape{2, 1, 128, 70},
                             Shape{1, 1, 256, 0}, Shape{1, 1, 64, 1}, Shape{2, 1, 64, 40, 0.5f},
                             Shape{3, 3, 64, 0, 0, true}, Shape{2, 1, 80, 33, 2, true}}) {
    for (const uint64_t seed : {1, 2}) {
      cuda::set_emulation_seed(seed);
      Sequences s(shape, NumberFormat::kF16, NumberFormat::kF16, {150});
      s.run(s.all(), false);
      // From the middle on, as chunks of a prompt are.
      const auto all = s.all();
      const std::vector<Sequences::Token> end(all.begin() + 41, all.end());
      s.expect_right(end, s.run_tiles(end, 30), 2e-3);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(GpuLatentAttention, is_softmax_over_keys_that_are_values) {
  for (const NumberFormat type : {NumberFormat::kF32, NumberFormat::kF16, NumberFormat::kBF16,
                                  NumberFormat::kInt8, NumberFormat::kE4M3}) {
    for (const Shape& shape :
         {Shape{4, 1, 40, 0, 0, false, true}, Shape{3, 1, 576, 0, 0, false, true},
          Shape{2, 1, 200, 9, 0.5f, false, true}}) {
      Sequences s(shape, type, type, {20, 3});
      const auto out = s.run(s.all());
      const bool tiles = shape.d == 576 && type != NumberFormat::kF32;
      s.expect_right(s.all(), out, tiles ? 1e-3 : 3e-6, tiles ? cuda::kLatentRotated : 0);
      if (HasFatalFailure()) return;
    }
  }
}

// Blocks of 16 and of 32 heads, some of them empty; windows, caps; orders of threads.
TEST(GpuLatentAttention, on_tensor_cores_holds_for_every_number_of_heads) {
  for (const int64_t heads : {1, 16, 17, 40}) {
    cuda::set_emulation_seed(static_cast<uint64_t>(heads));
    const int64_t window = heads == 17 ? 21 : 0;
    const float cap = heads == 40 ? 0.5f : 0;
    Sequences s({heads, 1, 576, window, cap, false, true}, NumberFormat::kF16, NumberFormat::kF16,
                {70});
    const auto all = s.all();
    s.run(all, false);
    const std::vector<Sequences::Token> some = {all[0], all[15], all[33], all[69]};
    s.expect_right(some, s.run(some), 1e-3, cuda::kLatentRotated);
    if (HasFatalFailure()) return;
  }
}

TEST(GpuLatentAttention, joins_chunks_and_holds_for_rows_of_every_size) {
  for (const NumberFormat type : {NumberFormat::kF16, NumberFormat::kInt8, NumberFormat::kE4M3}) {
    Sequences s({2, 1, 576, 0, 0, false, true}, type, type, {cuda::kChunkKeys + 40});
    if (type != NumberFormat::kF16)
      s.scale_rows([](int64_t p) { return std::ldexp(1.0f, static_cast<int>(p * 7 % 40) - 38); });
    auto tokens = s.all();
    const std::vector<Sequences::Token> last(tokens.end() - 1, tokens.end());
    tokens.pop_back();
    s.run(tokens, false);
    s.expect_right(last, s.run(last), 2e-3, cuda::kLatentRotated);
    if (HasFatalFailure()) return;
  }
}

TEST(GpuLatentAttention, of_a_token_does_not_depend_on_what_else_is_in_the_batch) {
  const auto make = [] {
    return Sequences({3, 1, 576, 0, 0, false, true}, NumberFormat::kF16, NumberFormat::kF16,
                     {40, 18});
  };
  auto together = make(), apart = make();
  const auto all = together.all();
  const auto expected = together.run(all);
  for (size_t i = 0; i < all.size(); ++i) {
    const auto one = apart.run({all[i]});
    for (size_t j = 0; j < one.size(); ++j) {
      if (j % 576 >= cuda::kLatentRotated) {
        ASSERT_EQ(one[j], expected[i * one.size() + j]) << i;
      }
    }
  }
}

}  // namespace
}  // namespace pith
