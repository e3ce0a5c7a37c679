#include "quant/tcq_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "formats/encodings/tcq.h"
#include "quant/grid.h"
#include "tests/support/encodings.h"

namespace pith {
namespace {

struct Row {
  std::vector<float> x, scale, cost;
  explicit Row(int64_t k, uint64_t seed, float size = 1)
      : x(test::uniform_values(k, seed, size)), scale(x.size(), size * 0.02f), cost(x.size()) {
    const auto some = test::uniform_values(k, seed + 1);
    for (size_t i = 0; i < cost.size(); ++i) cost[i] = 1.5f + some[i];
  }
};

double code_at(uint32_t window) { return tcq_code(static_cast<uint16_t>(window)) - kTcqZero; }

// The least loss of all paths (Viterbi 1967), over every window at every column.
double least_loss(int bits, const Row& r) {
  constexpr uint32_t kWindows = 1u << kTcqWindow;
  std::vector<double> before(kWindows), now(kWindows);
  for (size_t i = 0; i < r.x.size(); ++i) {
    std::vector<double> least(kWindows >> bits,
                              i == 0 ? 0 : std::numeric_limits<double>::infinity());
    for (uint32_t w = 0; i > 0 && w < kWindows; ++w)
      least[w >> bits] = std::min(least[w >> bits], before[w]);
    for (uint32_t w = 0; w < kWindows; ++w) {
      const double miss =
          static_cast<double>(r.x[i]) - static_cast<double>(r.scale[i]) * code_at(w);
      now[w] = least[w & ((kWindows >> bits) - 1)] + static_cast<double>(r.cost[i]) * miss * miss;
    }
    std::swap(before, now);
  }
  return *std::ranges::min_element(before);
}

void expect_path(int bits, const std::vector<uint16_t>& windows) {
  for (size_t i = 1; i < windows.size(); ++i)
    ASSERT_EQ(windows[i] & ((1 << (kTcqWindow - bits)) - 1), windows[i - 1] >> bits) << i;
}

TEST(TcqSearch, comes_near_to_the_best_of_all_paths) {
  for (const int bits : {2, 3, 4}) {
    const Row r(60, static_cast<uint64_t>(bits));
    std::vector<uint16_t> windows(r.x.size());
    const double loss = search_windows({.bits = bits,
                                        .columns = 60,
                                        .original = r.x.data(),
                                        .target = r.x.data(),
                                        .scale = r.scale.data(),
                                        .cost = r.cost.data(),
                                        .survivors = 256},
                                       -1, windows.data());
    expect_path(bits, windows);
    const double best = least_loss(bits, r);
    EXPECT_GE(loss, best * (1 - 1e-5)) << bits;
    EXPECT_LE(loss, best * 1.3) << bits;
  }
}

TEST(TcqSearch, has_the_loss_of_its_path_where_errors_feed_back) {
  const int64_t k = 80;
  const Row r(k, 7);
  auto feedback = test::uniform_values(k * kTcqColumns, 9, 0.2f);
  const auto target = test::uniform_values(k, 10);
  std::vector<uint16_t> windows(static_cast<size_t>(k));
  const double loss = search_windows({.bits = 3,
                                      .columns = k,
                                      .original = r.x.data(),
                                      .target = target.data(),
                                      .scale = r.scale.data(),
                                      .cost = r.cost.data(),
                                      .feedback = feedback.data(),
                                      .survivors = 64},
                                     5000, windows.data());
  EXPECT_EQ(windows[0] & 0x1fff, 5000 >> 3);
  expect_path(3, windows);
  double sum = 0;
  std::vector<double> error;
  for (size_t j = 0; j < windows.size(); ++j) {
    const double q = static_cast<double>(r.scale[j]) * code_at(windows[j]);
    double t = static_cast<double>(target[j]);
    for (size_t i = 0; i < j; ++i)
      t += error[i] * static_cast<double>(feedback[i * kTcqColumns + j]);
    error.push_back(static_cast<double>(r.x[j]) - q);
    sum += static_cast<double>(r.cost[j]) * (t - q) * (t - q);
  }
  EXPECT_NEAR(loss, sum, 1e-4 * sum);
}

// Neither the size of weights nor what they cost has a say in how many paths go on.
TEST(TcqSearch, loses_in_proportion_to_the_square_of_the_weights) {
  const auto loss_of = [](float size, float cost) {
    Row r(200, 3, size);
    for (float& c : r.cost) c *= cost;
    std::vector<uint16_t> windows(r.x.size());
    search_windows_of_row(2, 64, 200, r.x.data(), r.scale.data(), r.cost.data(), windows.data());
    double sum = 0;
    for (size_t i = 0; i < windows.size(); ++i) {
      const double miss = static_cast<double>(r.x[i] / size) -
                          static_cast<double>(r.scale[i] / size) * code_at(windows[i]);
      sum += miss * miss;
    }
    return sum;
  };
  const double usual = loss_of(1, 1);
  for (const auto& [size, cost] : {std::pair{0x1p-40f, 1.0f}, {0x1p40f, 1.0f}, {1.0f, 0x1p-30f}})
    EXPECT_NEAR(loss_of(size, cost), usual, 0.1 * usual) << size << " " << cost;
}

TEST(TcqSearch, has_kernels_that_agree_on_all_levels) {
  std::vector<const GridKernels*> levels;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) levels.push_back(&kGridAvx2);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    levels.push_back(&kGridAvx512);
#endif
  if (levels.empty()) GTEST_SKIP() << "this processor has one level only";
  constexpr int64_t kPaths = 48, kCount = kPaths << 4;
  const auto loss = test::uniform_values(kPaths, 1), target = test::uniform_values(kPaths, 2),
             values = test::uniform_values(1 << 16, 3, 126),
             from = test::uniform_values(kPaths * kTcqColumns, 4),
             feedback = test::uniform_values(kTcqColumns, 5);
  std::vector<uint16_t> rows;
  std::vector<uint8_t> parents;
  for (int64_t i = 0; i < kPaths; ++i) {
    rows.push_back(static_cast<uint16_t>(i * 83));
    parents.push_back(static_cast<uint8_t>(i * 7 % kPaths));
  }
  const auto run = [&](const GridKernels& g) {
    std::vector<float> out(kCount), to(from.size());
    g.branch({4, kPaths, loss.data(), target.data(), rows.data(), values.data(), 0.01f, 1.7f,
              out.data()});
    const float least = g.least(out.data(), kCount), limit = least + 0.5f;
    std::vector<uint16_t> which(kCount);
    const int64_t within = g.count_within(out.data(), kCount, limit);
    which.resize(static_cast<size_t>(g.select_within(out.data(), kCount, limit, which.data())));
    EXPECT_EQ(std::ssize(which), within);
    EXPECT_GT(within, 0);
    EXPECT_LT(within, kCount);
    g.advance({kPaths, 16, kTcqColumns, from.data(), parents.data(), loss.data(), feedback.data(),
               to.data()});
    return std::tuple{out, least, which, to};
  };
  const auto plain = run(kGridScalar);
  for (const GridKernels* g : levels) EXPECT_EQ(run(*g), plain);
}

}  // namespace
}  // namespace pith
