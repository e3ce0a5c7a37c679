#include "core/rng.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <set>

namespace pith {
namespace {

TEST(Rng, a_value_depends_on_seed_stream_and_counter_alone) {
  Rng a(7, 3), b(7, 3);
  for (uint64_t i = 0; i < 100; ++i) {
    const uint64_t v = a.next();
    EXPECT_EQ(v, b.at(i));
    EXPECT_EQ(Rng(7, 3).at(i), v);
  }
  static_assert(Rng(1).at(0) == Rng(1, 0).next());
}

// Files name a seed: the numbers behind it must never change.
TEST(Rng, its_numbers_are_those_of_every_version) {
  EXPECT_EQ(mix64(1), 0x5692161d100b05e5u);
  EXPECT_EQ(mix64(0), 0u);
  Rng r(0);
  EXPECT_EQ(r.next(), 0x48294f70ccf5e4fcu);
}

TEST(Rng, seeds_streams_and_counters_give_different_values) {
  std::set<uint64_t> seen;
  size_t n = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    for (uint64_t stream = 0; stream < 20; ++stream) {
      for (uint64_t i = 0; i < 20; ++i, ++n) seen.insert(Rng(seed, stream).at(i));
    }
  }
  EXPECT_EQ(seen.size(), n);
}

TEST(Rng, uniform_numbers_fill_the_unit_interval_evenly) {
  constexpr int kBins = 64, kDraws = 64000;
  for (uint64_t seed = 0; seed < 5; ++seed) {
    std::array<int, kBins> bins{};
    Rng r(seed);
    double previous = 0.5, products = 0;
    for (int i = 0; i < kDraws; ++i) {
      const double u = r.uniform();
      ASSERT_GE(u, 0);
      ASSERT_LT(u, 1);
      bins[static_cast<size_t>(u * kBins)]++;
      products += (u - 0.5) * (previous - 0.5);
      previous = u;
    }
    double chi = 0;
    for (const int count : bins) chi += std::pow(count - 1000.0, 2) / 1000.0;
    EXPECT_LT(chi, 110) << seed;  // 63 degrees of freedom: beyond it once in 5000
    EXPECT_LT(std::fabs(products / kDraws), 4 * (1.0 / 12) / std::sqrt(kDraws)) << seed;
  }
}

// Streams of neighbouring rows must not be shifted copies of each other.
TEST(Rng, every_bit_is_set_half_of_the_time_and_streams_differ_in_half_of_their_bits) {
  std::array<int, 64> set{};
  int64_t different = 0;
  constexpr int kDraws = 4096;
  for (uint64_t i = 0; i < kDraws; ++i) {
    const uint64_t v = Rng(1, 5).at(i);
    for (size_t b = 0; b < 64; ++b) set[b] += (v >> b & 1) != 0;
    different += std::popcount(v ^ Rng(1, 6).at(i));
  }
  for (const int count : set) EXPECT_NEAR(count, kDraws / 2, 4.5 * 32);
  EXPECT_NEAR(static_cast<double>(different) / kDraws, 32, 0.3);
}

}  // namespace
}  // namespace pith
