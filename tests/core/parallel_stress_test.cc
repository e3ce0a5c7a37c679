// Many short loops in a row: where threads that are late meet the next loop being set up.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "core/rng.h"

namespace pith {
namespace {

void spin(int n) {
  for (volatile int i = 0; i < n;) i = i + 1;
}

// Every tile once, none before its loop began and none after it ended. Loops grow and shrink: a
// thread that looks for more work of a short loop must not take a tile of the long one behind it.
TEST(ThreadPoolStress, loops_of_changing_lengths_follow_each_other) {
  for (const int threads : {2, 3, 5}) {
    ThreadPool pool(threads);
    std::vector<std::atomic<int>> seen(64);
    std::atomic<int> loop{0};
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(700);
    uint64_t counter = 0;
    while (std::chrono::steady_clock::now() < end) {
      for (int repeat = 0; repeat < 200; ++repeat) {
        const auto draw = Rng(static_cast<uint64_t>(threads)).at(counter++);
        const auto n = static_cast<int64_t>(2 + draw % 60);
        const int mine = ++loop;
        pool.run(n, [&, mine](int64_t i) {
          EXPECT_EQ(loop.load(), mine) << "a tile of another loop";
          seen[static_cast<size_t>(i)]++;
        });
        for (int64_t i = 0; i < 64; ++i) {
          ASSERT_EQ(seen[static_cast<size_t>(i)].exchange(0), i < n ? 1 : 0)
              << "tile " << i << " of " << n << ", loop " << mine;
        }
      }
    }
  }
}

TEST(ThreadPoolStress, short_then_long_loops_without_a_pause) {
  ThreadPool pool(2);
  std::atomic<int64_t> sum{0};
  int64_t expected = 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(700);
  while (std::chrono::steady_clock::now() < end) {
    for (int repeat = 0; repeat < 500; ++repeat) {
      pool.run(2, [&](int64_t) { sum += 1; });
      pool.run(9, [&](int64_t i) { sum += i; });
      expected += 2 + 36;
      ASSERT_EQ(sum, expected);
    }
  }
}

TEST(ThreadPoolStress, workers_that_fell_asleep_come_back) {
  ThreadPool pool(4);
  for (int repeat = 0; repeat < 300; ++repeat) {
    std::atomic<int64_t> sum{0};
    pool.run(8, [&](int64_t i) { sum += i; });
    ASSERT_EQ(sum, 28);
    if (repeat % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
    spin(repeat * 50);
  }
}

TEST(ThreadPoolStress, the_exception_of_the_lowest_tile_that_ran_arrives_and_loops_go_on) {
  ThreadPool pool(3);
  for (int repeat = 0; repeat < 2000; ++repeat) {
    const int64_t bad = repeat % 37;
    std::atomic<int64_t> ran{0};
    std::string message;
    try {
      pool.run(37, [&](int64_t i) {
        ran++;
        if (i == bad) fail(ErrorKind::kNumeric, "tile {}", i);
      });
    } catch (const Error& e) {
      message = e.what();
    }
    ASSERT_EQ(message, fmt::format("tile {}", bad));
    ASSERT_GE(ran, 1);
    ASSERT_LE(ran, 37);
    std::atomic<int64_t> sum{0};
    pool.run(40, [&](int64_t i) { sum += i; });
    ASSERT_EQ(sum, 780);
  }
}

TEST(ThreadPoolStress, pools_come_and_go) {
  for (int repeat = 0; repeat < 200; ++repeat) {
    ThreadPool pool(1 + repeat % 4);
    std::atomic<int64_t> sum{0};
    if (repeat % 2 == 0) pool.run(5, [&](int64_t i) { sum += i; });
    ASSERT_EQ(sum, repeat % 2 == 0 ? 10 : 0);
  }
}

TEST(ParallelRanges, cover_the_whole_once_in_pieces_of_the_grain) {
  for (const int64_t n : {0, 1, 7, 8, 9, 1000}) {
    std::vector<std::atomic<int>> seen(static_cast<size_t>(n));
    parallel_ranges(n, 8, [&](int64_t begin, int64_t end) {
      EXPECT_EQ(begin % 8, 0);
      EXPECT_EQ(end, std::min(n, begin + 8));
      for (int64_t i = begin; i < end; ++i) seen[static_cast<size_t>(i)]++;
    });
    for (auto& s : seen) ASSERT_EQ(s, 1);
  }
}

TEST(ThreadPool, the_number_of_threads_can_be_set_and_reset) {
  set_threads(3);
  EXPECT_EQ(thread_count(), 3);
  set_threads(1);
  EXPECT_EQ(thread_count(), 1);
  set_threads(0);
  EXPECT_GE(thread_count(), 1);
}

}  // namespace
}  // namespace pith
