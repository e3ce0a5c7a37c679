#include "core/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <vector>

#include "core/error.h"

namespace pith {
namespace {

TEST(ThreadPool, runs_every_tile_exactly_once) {
  for (int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    for (int64_t n : {0, 1, 2, 17, 1000}) {
      for (int repeat = 0; repeat < 50; ++repeat) {
        std::vector<std::atomic<int>> seen(static_cast<size_t>(n));
        pool.run(n, [&](int64_t i) { seen[static_cast<size_t>(i)]++; });
        for (auto& s : seen) ASSERT_EQ(s, 1);
      }
    }
  }
}

TEST(ThreadPool, rethrows_and_works_again) {
  ThreadPool pool(3);
  for (int repeat = 0; repeat < 200; ++repeat) {
    EXPECT_THROW(pool.run(100,
                          [&](int64_t i) {
                            if (i % 10 == 3) fail(ErrorKind::kNumeric, "tile {}", i);
                          }),
                 Error);
    std::atomic<int64_t> sum{0};
    pool.run(100, [&](int64_t i) { sum += i; });
    ASSERT_EQ(sum, 4950);
  }
}

TEST(ThreadPool, loops_inside_tiles_run_on_their_thread) {
  ThreadPool pool(4);
  std::atomic<int64_t> sum{0};
  pool.run(8, [&](int64_t) { pool.run(8, [&](int64_t i) { sum += i; }); });
  EXPECT_EQ(sum, 8 * 28);
}

TEST(ThreadPool, takes_callers_of_several_threads_in_turn) {
  ThreadPool pool(3);
  std::atomic<int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int r = 0; r < 100; ++r) pool.run(10, [&](int64_t i) { sum += i; });
    });
  }
  for (auto& c : callers) c.join();
  EXPECT_EQ(sum, 4 * 100 * 45);
}

}  // namespace
}  // namespace pith
