// Loops over independent tiles. Threads claim tiles from one counter, so a descheduled thread holds
// up no more than the tile it has in hand, and a worker that has not woken yet holds up nothing: a
// loop ends when every tile is done, not when every worker has arrived. Idle workers spin briefly,
// then sleep on a futex.
//
// What a tile computes must not depend on which thread runs it; then results do not depend on the
// number of threads. Loops inside a tile run on that tile's thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "core/function_ref.h"

namespace pith {

class ThreadPool {
 public:
  // Counts the caller; at least 1. Has fewer where the system starts no more.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // tile(i) for i in [0, n), in any order, on any thread. The exception of the lowest failing tile
  // is rethrown; tiles that were not yet claimed then are skipped. One loop at a time per pool:
  // concurrent callers take turns.
  void run(int64_t n, FunctionRef<void(int64_t)> tile);

 private:
  bool start(int threads);  // whether all could be started
  void stop();
  void work();
  bool claim_and_run(uint32_t generation);

  // generation << 32 | tiles that nobody has claimed. A claim is a compare-and-swap on the whole
  // word: it fails for a stale generation, and where nothing is left it is not tried, so that a
  // thread that is late finds nothing to take while the next loop is being set up. What a loop is
  // made of (tiles_, body_) is read behind a claim: until the claimed tile is done, it stays.
  alignas(64) std::atomic<uint64_t> state_{0};
  alignas(64) std::atomic<uint32_t> done_{0};
  std::atomic<uint32_t> epoch_{0};  // what sleepers wait on
  std::atomic<int> sleepers_{0};
  std::atomic<uint32_t> tiles_{0};
  std::atomic<FunctionRef<void(int64_t)>*> body_{nullptr};
  std::atomic<bool> stop_{false};
  std::mutex callers_;
  std::mutex error_mutex_;
  std::exception_ptr error_;
  uint32_t error_tile_ = 0;
  std::vector<std::thread> workers_;
};

// The process-wide pool. set_threads(0) asks the machine (respecting affinity and the quota of
// control groups); call it while no loop runs. thread_count() may be less than what was asked for.
void set_threads(int threads);
int thread_count();
void parallel_for(int64_t n, FunctionRef<void(int64_t)> tile);

// [0, n) cut into pieces of `grain` (the last shorter): body(begin, end).
void parallel_ranges(int64_t n, int64_t grain, FunctionRef<void(int64_t, int64_t)> body);

}  // namespace pith
