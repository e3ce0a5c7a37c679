// Attention over cached keys and values, against float64 over everything that a query sees.

#include "runtime/cpu/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "core/dtype.h"
#include "core/parallel.h"
#include "runtime/cpu/cpu_executor.h"
#include "tests/support/encodings.h"
#include "tests/support/kernel_levels.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

struct Heads {
  uint32_t query, key, size;
  uint64_t window = 0;
  double scale = 0;
  double cap = 0;
  bool sinks = false;
};

proto::ModelSpec spec_of(const Heads& h) {
  proto::ModelSpec spec;
  auto* a = spec.add_layers()->add_sublayers()->mutable_attention();
  a->set_heads(h.query);
  a->set_kv_heads(h.key);
  a->set_head_dim(h.size);
  a->set_window(h.window);
  a->set_scale(h.scale);
  a->set_score_cap(h.cap);
  return spec;
}

std::vector<float> sinks_of(const Heads& h) {
  return h.sinks ? test::uniform_values(h.query, 99, 4) : std::vector<float>();
}

// Queries, keys and values [tokens, heads * size] of one sequence.
struct Sequence {
  Sequence(const Heads& h, int64_t tokens, uint64_t seed)
      : q(test::uniform_values(tokens * h.query * h.size, seed, 3)),
        k(test::uniform_values(tokens * h.key * h.size, seed + 1, 3)),
        v(test::uniform_values(tokens * h.key * h.size, seed + 2)) {}
  std::vector<float> q, k, v;
};

float stored(NumberFormat type, float v) {
  return type == NumberFormat::kF16 ? f16_to_f32(f32_to_f16(v)) : v;
}

// out [tokens, heads * size] in float64, of all tokens of the sequence.
std::vector<double> reference(const Heads& h, const Sequence& s, int64_t tokens,
                              NumberFormat type) {
  const int64_t d = h.size, q_width = h.query * d, kv_width = h.key * d;
  const double scale = h.scale != 0 ? h.scale : 1 / std::sqrt(static_cast<double>(d));
  std::vector<double> out(static_cast<size_t>(tokens * q_width));
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t begin =
        h.window > 0 ? std::max<int64_t>(0, t - static_cast<int64_t>(h.window) + 1) : 0;
    for (int64_t head = 0; head < h.query; ++head) {
      const int64_t kv = head / (h.query / h.key);
      std::vector<double> scores;
      for (int64_t p = begin; p <= t; ++p) {
        double sum = 0;
        for (int64_t c = 0; c < d; ++c) {
          sum += static_cast<double>(s.q[static_cast<size_t>(t * q_width + head * d + c)]) *
                 static_cast<double>(
                     stored(type, s.k[static_cast<size_t>(p * kv_width + kv * d + c)]));
        }
        scores.push_back(h.cap > 0 ? h.cap * std::tanh(sum * scale / h.cap) : sum * scale);
      }
      const double top = std::ranges::max(scores);
      double total =
          h.sinks ? std::exp(static_cast<double>(sinks_of(h)[static_cast<size_t>(head)]) - top) : 0;
      for (double& v : scores) total += v = std::exp(v - top);
      for (int64_t p = begin; p <= t; ++p) {
        for (int64_t c = 0; c < d; ++c) {
          out[static_cast<size_t>(t * q_width + head * d + c)] +=
              scores[static_cast<size_t>(p - begin)] / total *
              static_cast<double>(
                  stored(type, s.v[static_cast<size_t>(p * kv_width + kv * d + c)]));
        }
      }
    }
  }
  return out;
}

// Runs tokens [begin, begin + count) of each sequence in one batch; out of each is put in its
// place.
struct Piece {
  int slot;
  int64_t begin, count;
};
void run(const CpuKernels& kernels, const Heads& h, CpuKvStorage& cache, std::vector<Sequence>& all,
         const std::vector<Piece>& pieces, std::vector<std::vector<float>>& outs) {
  const int64_t q_width = h.query * h.size, kv_width = h.key * h.size;
  std::vector<float> q, k, v;
  std::vector<Segment> segments;
  for (const Piece& p : pieces) {
    const Sequence& s = all[static_cast<size_t>(p.slot)];
    const auto append = [&](std::vector<float>& to, const std::vector<float>& from, int64_t width) {
      to.insert(to.end(), from.begin() + p.begin * width,
                from.begin() + (p.begin + p.count) * width);
    };
    append(q, s.q, q_width);
    append(k, s.k, kv_width);
    append(v, s.v, kv_width);
    segments.push_back({p.slot, p.begin, p.count});
  }
  const auto m = static_cast<int64_t>(q.size()) / q_width;
  std::vector<float> out(q.size());
  const auto spec = spec_of(h);
  const std::vector<int32_t> tokens(static_cast<size_t>(m));
  const AttentionShape shape = attention_shape(spec.layers(0).sublayers(0).attention());
  const FloatVector sinks = sinks_of(h);
  const Batch batch{tokens, segments};
  store_kv(kernels, cache, 0, batch, {k.data(), m, kv_width}, {v.data(), m, kv_width});
  run_attention(kernels,
                {shape, &sinks, cache, 0, batch, {q.data(), m, q_width}, {out.data(), m, q_width}});
  auto from = out.begin();
  for (const Piece& p : pieces) {
    std::copy_n(from, p.count * q_width,
                outs[static_cast<size_t>(p.slot)].begin() + p.begin * q_width);
    from += p.count * q_width;
  }
}

void expect_near(const std::vector<float>& got, const std::vector<double>& expected,
                 const std::string& what) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(static_cast<double>(got[i]), expected[i], 4e-6) << what << ", element " << i;
}

std::vector<float> run_whole(const CpuKernels& kernels, const Heads& h, int64_t tokens,
                             KvTypes types, std::vector<Sequence>& all,
                             const std::vector<Piece>& pieces) {
  const KvPages pages(1, tokens);
  CpuKvStorage cache(spec_of(h), types, pages);
  std::vector<std::vector<float>> outs{std::vector<float>(all[0].q.size())};
  for (const Piece& p : pieces) run(kernels, h, cache, all, {p}, outs);
  return outs[0];
}

class Attention : public testing::Test {
 protected:
  void TearDown() override { set_threads(0); }
};

TEST_F(Attention, equals_float64_for_all_shapes_of_heads_windows_and_caches) {
  const Heads cases[] = {{4, 4, 16},
                         {8, 2, 24},
                         {6, 1, 64},
                         {3, 3, 80},
                         {4, 2, 128},
                         {2, 1, 16, 1},
                         {4, 2, 24, 7},
                         {2, 2, 64, 64},
                         {2, 1, 16, 65},
                         {2, 1, 16, 1000},
                         {2, 1, 80, 30},
                         {2, 2, 16, 0, 0.125},
                         {1, 1, 2, 0, 1},
                         {9, 3, 64, 0, 0.01},
                         {4, 2, 24, 7, 0, 2},
                         {6, 2, 64, 0, 0, 0, true},
                         {4, 1, 16, 70, 0.5, 5, true}};
  for (const Heads& h : cases) {
    for (const NumberFormat type : {NumberFormat::kF32, NumberFormat::kF16}) {
      for (const int64_t tokens : {1, 33, 300}) {
        std::vector<Sequence> all{Sequence(h, tokens, 30)};
        const auto expected = reference(h, all[0], tokens, type);
        for (const CpuKernels* kernels : test::kernel_levels()) {
          expect_near(
              run_whole(*kernels, h, tokens, type, all, {{0, 0, tokens}}), expected,
              fmt::format("{}: {} on {} heads of {}, window {}, {}, {} tokens", kernels->name,
                          h.query, h.key, h.size, h.window, kv_type_name(type), tokens));
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

// The sequence with keys and values as a cache gives them back.
Sequence stored_sequence(const CpuKernels& kernels, const Heads& h, const Sequence& s,
                         int64_t tokens, KvTypes types) {
  Sequence out = s;
  const int64_t d = h.size, rows = tokens * h.key;
  KvScratch scratch;
  KvPlane keys(types.keys, true, 1, rows, d), values(types.values, false, 1, rows, d);
  for (int64_t r = 0; r < rows; ++r) {
    keys.write(kernels, 0, r, s.k.data() + r * d);
    values.write(kernels, 0, r, s.v.data() + r * d);
  }
  std::copy_n(values.rows(kernels, {0, 0, rows}, scratch), rows * d, out.v.begin());
  const float* const columns = keys.columns(kernels, {0, 0, rows}, scratch);
  const int64_t ld = (rows + 15) / 16 * 16;
  for (int64_t r = 0; r < rows; ++r) {
    float* const key = out.k.data() + r * d;
    for (int64_t i = 0; i < d; ++i) key[i] = columns[i * ld + r];
    if (keys.rotated()) rotate_head(key, d);
  }
  return out;
}

// Against what is in the cache: rounding of f32. Against what was put in: `lost`, of values in
// [-1, 1] under scores with a standard deviation of 3.
TEST_F(Attention, of_narrow_caches_equals_float64_of_what_they_hold) {
  struct Narrow {
    KvTypes types;
    double lost;
  };
  const Narrow narrow[] = {{NumberFormat::kBF16, 0.02},
                           {NumberFormat::kInt8, 0.05},
                           {NumberFormat::kE4M3, 0.2},
                           {NumberFormat::kInt4, 0.7},
                           {{NumberFormat::kInt8, NumberFormat::kInt4}, 0.1},
                           {{NumberFormat::kF16, NumberFormat::kInt4}, 0.1},
                           {{NumberFormat::kInt4, NumberFormat::kF32}, 0.7}};
  const Heads cases[] = {{8, 2, 24}, {6, 1, 64},  {3, 3, 80},
                         {2, 1, 96}, {4, 2, 128}, {2, 1, 80, 30}};
  for (const Heads& h : cases) {
    for (const Narrow& n : narrow) {
      for (const int64_t tokens : {1, 33, 150}) {
        std::vector<Sequence> all{Sequence(h, tokens, 30)};
        const auto original = reference(h, all[0], tokens, NumberFormat::kF32);
        for (const CpuKernels* kernels : test::kernel_levels()) {
          const auto held = reference(h, stored_sequence(*kernels, h, all[0], tokens, n.types),
                                      tokens, NumberFormat::kF32);
          const std::string what =
              fmt::format("{}: {} on {} heads of {}, window {}, {}, {} tokens", kernels->name,
                          h.query, h.key, h.size, h.window, to_string(n.types), tokens);
          for (const int64_t chunk : {tokens, int64_t{20}, int64_t{1}}) {
            std::vector<Piece> pieces;
            for (int64_t t = 0; t < tokens; t += chunk)
              pieces.push_back({0, t, std::min(chunk, tokens - t)});
            const auto got = run_whole(*kernels, h, tokens, n.types, all, pieces);
            for (size_t i = 0; i < got.size(); ++i) {
              ASSERT_NEAR(static_cast<double>(got[i]), held[i], 2e-5)
                  << what << ", chunks of " << chunk;
            }
          }
          double worst = 0;
          for (size_t i = 0; i < held.size(); ++i)
            worst = std::max(worst, std::fabs(held[i] - original[i]));
          EXPECT_LT(worst, n.lost) << what;
        }
      }
    }
  }
}

TEST_F(Attention, of_narrow_caches_does_not_depend_on_the_number_of_threads) {
  const Heads h{6, 2, 64, 100};
  std::vector<Sequence> all{Sequence(h, 170, 60)};
  for (const KvTypes& types :
       {KvTypes(NumberFormat::kInt8), KvTypes(NumberFormat::kE4M3), KvTypes(NumberFormat::kInt4)}) {
    for (const CpuKernels* kernels : test::kernel_levels()) {
      set_threads(1);
      const auto one = run_whole(*kernels, h, 170, types, all, {{0, 0, 120}, {0, 120, 50}});
      set_threads(3);
      ASSERT_EQ(run_whole(*kernels, h, 170, types, all, {{0, 0, 120}, {0, 120, 50}}), one);
    }
  }
}

TEST_F(Attention, one_spoiled_key_spoils_those_that_see_it) {
  const Heads h{2, 1, 24};
  for (const NumberFormat type : {NumberFormat::kF32, NumberFormat::kF16, NumberFormat::kBF16,
                                  NumberFormat::kInt8, NumberFormat::kE4M3, NumberFormat::kInt4}) {
    for (const CpuKernels* kernels : test::kernel_levels()) {
      std::vector<Sequence> all{Sequence(h, 90, 90)};
      all[0].k[70 * 24 + 3] = std::numeric_limits<float>::quiet_NaN();
      const auto out = run_whole(*kernels, h, 90, type, all, {{0, 0, 70}, {0, 70, 20}});
      for (size_t i = 0; i < out.size(); ++i) {
        ASSERT_EQ(std::isnan(out[i]), i >= 70 * 48)
            << kernels->name << ", " << kv_type_name(type) << ", element " << i;
      }
    }
  }
}

TEST_F(Attention, chunks_give_the_bits_that_one_pass_gives) {
  constexpr int64_t kTokens = 600;
  for (const Heads& h :
       {Heads{4, 2, 24}, Heads{3, 1, 16, 70}, Heads{2, 2, 64, 64}, Heads{8, 1, 16, 300}}) {
    for (const KvTypes& types : {KvTypes(NumberFormat::kF16), KvTypes(NumberFormat::kF32),
                                 KvTypes(NumberFormat::kInt8, NumberFormat::kInt4),
                                 KvTypes(NumberFormat::kInt4, NumberFormat::kE4M3)}) {
      for (const CpuKernels* kernels : test::kernel_levels()) {
        std::vector<Sequence> all{Sequence(h, kTokens, 40)};
        const auto whole = run_whole(*kernels, h, kTokens, types, all, {{0, 0, kTokens}});
        for (const int64_t chunk : {1, 7, 64, 255}) {
          std::vector<Piece> pieces;
          for (int64_t t = 0; t < kTokens; t += chunk)
            pieces.push_back({0, t, std::min(chunk, kTokens - t)});
          ASSERT_EQ(run_whole(*kernels, h, kTokens, types, all, pieces), whole)
              << kernels->name << ", chunks of " << chunk << ", window " << h.window << ", "
              << to_string(types);
        }
      }
    }
  }
}

TEST_F(Attention, sequences_at_different_positions_share_a_batch) {
  const Heads h{4, 2, 24, 40};
  for (const CpuKernels* kernels : test::kernel_levels()) {
    const int64_t lengths[] = {90, 41, 7};
    std::vector<Sequence> all;
    std::vector<std::vector<double>> expected;
    std::vector<std::vector<float>> outs;
    for (size_t s = 0; s < 3; ++s) {
      all.emplace_back(h, lengths[s], 50 + 10 * s);
      expected.push_back(reference(h, all[s], lengths[s], NumberFormat::kF32));
      outs.emplace_back(all[s].q.size());
    }
    const KvPages pages(3, 90);
    CpuKvStorage cache(spec_of(h), NumberFormat::kF32, pages);
    run(*kernels, h, cache, all, {{1, 0, 40}, {0, 0, 33}}, outs);
    run(*kernels, h, cache, all, {{0, 33, 50}, {2, 0, 6}}, outs);
    run(*kernels, h, cache, all, {{2, 6, 1}, {1, 40, 1}, {0, 83, 1}}, outs);
    run(*kernels, h, cache, all, {{0, 84, 6}}, outs);
    for (size_t s = 0; s < 3; ++s) expect_near(outs[s], expected[s], kernels->name);
  }
}

TEST_F(Attention, does_not_depend_on_the_number_of_threads) {
  const Heads h{6, 2, 64, 100};
  std::vector<Sequence> all{Sequence(h, 170, 60)};
  for (const CpuKernels* kernels : test::kernel_levels()) {
    set_threads(1);
    const auto one =
        run_whole(*kernels, h, 170, NumberFormat::kF16, all, {{0, 0, 120}, {0, 120, 50}});
    for (const int threads : {2, 3, 5}) {
      set_threads(threads);
      ASSERT_EQ(run_whole(*kernels, h, 170, NumberFormat::kF16, all, {{0, 0, 120}, {0, 120, 50}}),
                one);
    }
  }
}

// Scores so far apart that one key takes all, in every position.
TEST_F(Attention, one_key_that_outweighs_all_others_is_copied) {
  const Heads h{1, 1, 16, 0, 1};
  const int64_t tokens = 100;
  for (const int64_t winner : {0, 50, 63, 64, 99}) {
    std::vector<Sequence> all{Sequence(h, tokens, 70)};
    Sequence& s = all[0];
    std::fill(s.q.begin(), s.q.end(), 30.0f);
    std::fill(s.k.begin(), s.k.end(), -30.0f);
    std::fill_n(s.k.begin() + winner * 16, 16, 30.0f);
    for (const CpuKernels* kernels : test::kernel_levels()) {
      const auto out = run_whole(*kernels, h, tokens, NumberFormat::kF32, all, {{0, 0, tokens}});
      for (int64_t c = 0; c < 16; ++c) {
        EXPECT_NEAR(out[static_cast<size_t>(99 * 16 + c)],
                    s.v[static_cast<size_t>(winner * 16 + c)], 1e-6f)
            << kernels->name;
      }
    }
  }
}

TEST_F(Attention, tokens_outside_of_the_cache_are_refused) {
  const Heads h{2, 1, 16};
  std::vector<Sequence> all{Sequence(h, 20, 80), Sequence(h, 20, 81), Sequence(h, 20, 82)};
  std::vector<std::vector<float>> outs(3, std::vector<float>(all[0].q.size()));
  const KvPages pages(2, 12);
  CpuKvStorage cache(spec_of(h), NumberFormat::kF32, pages);
  const CpuKernels& kernels = *test::kernel_levels().front();
  EXPECT_PITH_ERROR(run(kernels, h, cache, all, {{0, 0, 13}}, outs), ErrorKind::kUsage,
                    "do not fit a cache of 2 x 12");
  EXPECT_PITH_ERROR(run(kernels, h, cache, all, {{0, 12, 1}}, outs), ErrorKind::kUsage,
                    "do not fit");
  EXPECT_PITH_ERROR(run(kernels, h, cache, all, {{0, 0, 1}, {2, 0, 1}}, outs), ErrorKind::kUsage,
                    "sequence 2");
  run(kernels, h, cache, all, {{1, 0, 12}}, outs);
}

TEST_F(Attention, caches_know_their_size) {
  const auto spec = spec_of({4, 2, 24});
  // In multiples of 16 positions.
  const KvPages pages(3, 10);
  EXPECT_EQ(CpuKvStorage(spec, NumberFormat::kF32, pages).bytes(), 3u * 2 * 16 * 2 * 24 * 4);
  EXPECT_EQ(CpuKvStorage(spec, NumberFormat::kF16, pages).bytes(), 3u * 2 * 16 * 2 * 24 * 2);
  const auto cpu = make_cpu_executor();
  EXPECT_PITH_ERROR(cpu->make_cache(spec, {1 << 10, int64_t{1} << 40}), ErrorKind::kMemory, "");
}

}  // namespace
}  // namespace pith
