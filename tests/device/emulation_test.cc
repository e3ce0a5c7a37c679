// The emulation itself: that what would be an error on a GPU is one here.

#include <gtest/gtest.h>

#include <vector>

#include "core/error.h"
#include "runtime/cuda_kernels/device/device.cuh"

namespace pith::cuda {
namespace {

PITH_KERNEL reverse(const float* from, float* to, bool wait) {
  auto* const workspace = reinterpret_cast<float*>(shared_memory());
  workspace[thread_index()] = from[thread_index()];
  if (wait) sync_block();
  to[thread_index()] = workspace[block_threads() - 1 - thread_index()];
}

std::vector<float> reversed(uint64_t seed, bool wait) {
  std::vector<float> from(128), to(128);
  for (size_t i = 0; i < 128; ++i) from[i] = static_cast<float>(i);
  set_emulation_seed(seed);
  launch(reverse, {1, 1, 1, 128, 512}, nullptr, from.data(), to.data(), wait);
  return to;
}

TEST(Emulation, a_barrier_makes_the_order_of_threads_not_matter) {
  const auto expected = reversed(1, true);
  EXPECT_EQ(expected[0], 127);
  EXPECT_EQ(expected[127], 0);
  for (uint64_t seed = 2; seed < 8; ++seed) EXPECT_EQ(reversed(seed, true), expected);
}

TEST(Emulation, a_missing_barrier_shows_as_numbers_that_are_not_there_yet) {
  for (uint64_t seed = 1; seed < 4; ++seed) {
    const auto to = reversed(seed, false);
    EXPECT_GT(std::count_if(to.begin(), to.end(), [](float v) { return v != v; }), 20);
  }
}

PITH_KERNEL some_wait(int how) {
  if (how == 0 && thread_index() < 32) sync_block();
  if (how == 1 && thread_index() % 2 == 0) sync_warp();
  if (how == 2) {
    if (lane() < 16)
      sync_warp();
    else
      shuffle(1.0f, 0);
  }
  if (how == 3) load16(shared_memory() + 4);
}

TEST(Emulation, threads_that_do_not_meet_are_an_error) {
  for (int how = 0; how < 4; ++how) {
    try {
      launch(some_wait, {1, 1, 1, 64, 64}, nullptr, how);
      ADD_FAILURE() << how;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kUsage) << e.what();
    }
  }
  EXPECT_EQ(reversed(1, true)[0], 127);  // it goes on afterwards
}

PITH_KERNEL copied(const float* from, float* to, bool wait) {
  auto* const workspace = reinterpret_cast<float*>(shared_memory());
  copy_async16(workspace + 4 * thread_index(), from + 4 * thread_index(), thread_index() % 2 == 0);
  commit_copies();
  if (wait) wait_copies<0>();
  sync_block();
  to[thread_index()] = workspace[4 * (thread_index() ^ 2)];
}

TEST(Emulation, copies_in_the_background_are_there_when_they_were_waited_for_and_not_before) {
  alignas(16) float from[128];
  for (int i = 0; i < 128; ++i) from[i] = static_cast<float>(i);
  float to[32];
  launch(copied, {1, 1, 1, 32, 512}, nullptr, static_cast<const float*>(from), to, true);
  EXPECT_EQ(to[0], 8);
  EXPECT_EQ(to[1], 0);  // not valid
  launch(copied, {1, 1, 1, 32, 512}, nullptr, static_cast<const float*>(from), to, false);
  EXPECT_TRUE(std::isnan(to[0]));
}

PITH_KERNEL one_mma(const uint32_t* a, const uint32_t* b, float* d) {
  float sums[4] = {0, 0, 0, 0};
  mma_f16(sums, a + 4 * lane(), b + 2 * lane());
  for (int i = 0; i < 4; ++i) d[4 * lane() + i] = sums[i];
}

// Lanes and registers as the PTX manual has them for m16n8k16, spelled out another way.
TEST(Emulation, mma_is_the_product_of_fragments) {
  float a[16][16], b[16][8];
  for (int i = 0; i < 256; ++i) a[i / 16][i % 16] = static_cast<float>(i * 7 % 13 - 6);
  for (int i = 0; i < 128; ++i) b[i / 8][i % 8] = static_cast<float>(i * 5 % 11 - 5);
  uint32_t of_a[128], of_b[64];
  float d[128];
  const auto pair = [](float low, float high) {
    return static_cast<uint32_t>(f32_to_f16(high)) << 16 | f32_to_f16(low);
  };
  for (int l = 0; l < 32; ++l) {
    for (int i = 0; i < 8; i += 2) {  // a_i of the manual
      const int row = i < 2 || (i >= 4 && i < 6) ? l / 4 : l / 4 + 8;
      const int column = l % 4 * 2 + (i < 4 ? 0 : 8);
      of_a[4 * l + i / 2] = pair(a[row][column], a[row][column + 1]);
    }
    for (int i = 0; i < 4; i += 2) {
      const int row = l % 4 * 2 + (i < 2 ? 0 : 8);
      of_b[2 * l + i / 2] = pair(b[row][l / 4], b[row + 1][l / 4]);
    }
  }
  launch(one_mma, {1, 1, 1, 32}, nullptr, static_cast<const uint32_t*>(of_a),
         static_cast<const uint32_t*>(of_b), d);
  for (int l = 0; l < 32; ++l) {
    for (int i = 0; i < 4; ++i) {
      const int row = i < 2 ? l / 4 : l / 4 + 8, column = l % 4 * 2 + i % 2;
      float sum = 0;
      for (int k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
      EXPECT_EQ(d[4 * l + i], sum) << row << " " << column;
    }
  }
}

PITH_KERNEL one_mma_of_ints(const uint32_t* a, const uint32_t* b, int32_t* d) {
  int32_t sums[4] = {0, 0, 0, 0};
  mma_s8(sums, a + 4 * lane(), b + 2 * lane());
  for (int i = 0; i < 4; ++i) d[4 * lane() + i] = sums[i];
}

// As the PTX manual has m16n8k32 of 8-bit integers.
TEST(Emulation, mma_of_int8_is_the_product_of_fragments) {
  int8_t a[16][32], b[32][8];
  for (int i = 0; i < 512; ++i) a[i / 32][i % 32] = static_cast<int8_t>(i * 37 % 256 - 128);
  for (int i = 0; i < 256; ++i) b[i / 8][i % 8] = static_cast<int8_t>(i * 91 % 256 - 128);
  uint32_t of_a[128] = {}, of_b[64] = {};
  int32_t d[128];
  for (int l = 0; l < 32; ++l) {
    for (int i = 0; i < 16; ++i) {  // a_i of the manual
      const int row = i < 4 || (i >= 8 && i < 12) ? l / 4 : l / 4 + 8;
      const int column = l % 4 * 4 + i % 4 + (i < 8 ? 0 : 16);
      of_a[4 * l + i / 4] |= static_cast<uint32_t>(static_cast<uint8_t>(a[row][column]))
                             << (8 * (i % 4));
    }
    for (int i = 0; i < 8; ++i) {
      const int row = l % 4 * 4 + i % 4 + (i < 4 ? 0 : 16);
      of_b[2 * l + i / 4] |= static_cast<uint32_t>(static_cast<uint8_t>(b[row][l / 4]))
                             << (8 * (i % 4));
    }
  }
  launch(one_mma_of_ints, {1, 1, 1, 32}, nullptr, static_cast<const uint32_t*>(of_a),
         static_cast<const uint32_t*>(of_b), d);
  for (int l = 0; l < 32; ++l) {
    for (int i = 0; i < 4; ++i) {
      const int row = i < 2 ? l / 4 : l / 4 + 8, column = l % 4 * 2 + i % 2;
      int32_t sum = 0;
      for (int k = 0; k < 32; ++k) sum += a[row][k] * b[k][column];
      EXPECT_EQ(d[4 * l + i], sum) << row << " " << column;
    }
  }
}

PITH_KERNEL begins(bool waits) {
  if (waits || thread_index() != 7) wait_for_previous();
}

TEST(Emulation, a_kernel_that_begins_early_and_does_not_wait_is_an_error) {
  launch(begins, {1, 1, 1, 64, 0, true}, nullptr, true);
  launch(begins, {1, 1, 1, 64, 0, false}, nullptr, false);
  EXPECT_THROW(launch(begins, {1, 1, 1, 64, 0, true}, nullptr, false), Error);
}

}  // namespace
}  // namespace pith::cuda
