#include "core/parallel.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <system_error>
#include <utility>

#include "core/limits.h"

namespace pith {
namespace {

thread_local bool inside_tile = false;

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

constexpr int kSpins = 2000;  // some 50 us: longer than the gap between two operations of a token
constexpr uint32_t kMaxTiles = 1u << 31;

}  // namespace

ThreadPool::ThreadPool(int threads) {
  // Starting a thread may fail (a limit on tasks or address space); fewer threads do the same work.
  // Half of those that could be started, so that something is left for the work.
  if (start(threads - 1)) return;
  const auto some = static_cast<int>(workers_.size() / 2);
  stop();
  stop_ = false;
  start(some);
}

ThreadPool::~ThreadPool() { stop(); }

bool ThreadPool::start(int threads) {
  try {
    workers_.reserve(static_cast<size_t>(std::max(0, threads)));
    for (int i = 0; i < threads; ++i) workers_.emplace_back([this] { work(); });
  } catch (const std::system_error&) {
    return false;
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

void ThreadPool::stop() {
  stop_ = true;
  epoch_.fetch_add(1);
  epoch_.notify_all();
  for (auto& w : workers_) w.join();
  workers_.clear();
}

bool ThreadPool::claim_and_run(uint32_t generation) {
  uint64_t state = state_.load(std::memory_order_acquire);
  for (;;) {
    const auto left = static_cast<uint32_t>(state);
    if (static_cast<uint32_t>(state >> 32) != generation || left == 0) return false;
    if (!state_.compare_exchange_weak(state, state - 1, std::memory_order_acq_rel)) continue;
    const uint32_t tiles = tiles_.load(std::memory_order_relaxed);
    auto* body = body_.load(std::memory_order_relaxed);
    const uint32_t tile = tiles - left;
    try {
      (*body)(tile);
    } catch (...) {
      const std::lock_guard lock(error_mutex_);
      if (!error_ || tile < error_tile_) {
        error_ = std::current_exception();
        error_tile_ = tile;
      }
      // Take the tiles that nobody has claimed out of the loop.
      const uint64_t unclaimed = state_.fetch_and(~uint64_t{0xffffffff});
      done_.fetch_add(static_cast<uint32_t>(unclaimed));
    }
    if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == tiles) done_.notify_all();
    return true;
  }
}

void ThreadPool::work() {
  inside_tile = true;
  uint32_t seen = 0;
  while (!stop_) {
    const auto generation = static_cast<uint32_t>(state_.load(std::memory_order_acquire) >> 32);
    if (generation != seen) {
      while (claim_and_run(generation)) {
      }
      seen = generation;
    }
    int spins = 0;
    const uint32_t epoch = epoch_.load(std::memory_order_acquire);
    while (static_cast<uint32_t>(state_.load(std::memory_order_acquire) >> 32) == seen && !stop_) {
      if (++spins < kSpins) {
        pause_cpu();
        continue;
      }
      sleepers_.fetch_add(1);
      if (static_cast<uint32_t>(state_.load() >> 32) == seen && !stop_) epoch_.wait(epoch);
      sleepers_.fetch_sub(1);
      break;
    }
  }
}

void ThreadPool::run(int64_t n, FunctionRef<void(int64_t)> tile) {
  if (n <= 0) return;
  if (n == 1 || workers_.empty() || inside_tile || n >= kMaxTiles) {
    for (int64_t i = 0; i < n; ++i) tile(i);
    return;
  }
  const std::lock_guard lock(callers_);
  const auto tiles = static_cast<uint32_t>(n);
  const auto generation = static_cast<uint32_t>(state_.load() >> 32) + 1;
  error_ = nullptr;
  done_.store(0, std::memory_order_relaxed);
  tiles_.store(tiles, std::memory_order_relaxed);
  body_.store(&tile, std::memory_order_relaxed);
  state_.store(uint64_t{generation} << 32 | tiles, std::memory_order_seq_cst);
  epoch_.fetch_add(1);
  if (sleepers_.load() > 0) epoch_.notify_all();
  inside_tile = true;
  while (claim_and_run(generation)) {
  }
  inside_tile = false;
  for (int spins = 0;;) {
    const uint32_t done = done_.load(std::memory_order_acquire);
    if (done == tiles) break;
    if (++spins < kSpins) {
      pause_cpu();
    } else {
      done_.wait(done);
    }
  }
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

namespace {

int machine_threads() {
  cpu_set_t set;
  int cpus = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  if (::sched_getaffinity(0, sizeof(set), &set) == 0) cpus = std::max(1, CPU_COUNT(&set));
  const double granted = std::ceil(cpu_limit());  // 0: no limit
  return granted > 0 && granted < cpus ? static_cast<int>(granted) : cpus;
}

std::unique_ptr<ThreadPool>& pool() {
  static std::unique_ptr<ThreadPool> p = std::make_unique<ThreadPool>(machine_threads());
  return p;
}

}  // namespace

void set_threads(int threads) {
  const int wanted = threads > 0 ? threads : machine_threads();
  if (pool()->threads() != wanted) pool() = std::make_unique<ThreadPool>(wanted);
}
int thread_count() { return pool()->threads(); }
void parallel_for(int64_t n, FunctionRef<void(int64_t)> tile) { pool()->run(n, tile); }

void parallel_ranges(int64_t n, int64_t grain, FunctionRef<void(int64_t, int64_t)> body) {
  const int64_t pieces = (n + grain - 1) / grain;
  parallel_for(pieces, [&](int64_t i) { body(i * grain, std::min(n, (i + 1) * grain)); });
}

}  // namespace pith
