// What a busy neighbour costs. Decoding a token is a row of some 200 short loops, each with a join
// behind it; where the joins wait for a fixed share of a thread that does not run, one busy core
// costs many times its share.
//
// Measured: 200 loops of some 20 us of work per thread a token, with all threads of the machine,
// alone and beside a thread that burns one core, for
//   pith    ThreadPool: tiles are claimed one by one, nobody is waited for who holds none
//   static  one equal part per thread, all threads meet at a spinning barrier
// The four take turns, so that a change of the machine meets all of them; medians of the rounds.
//
// The fair loss: a burner that stays on one core of n takes half of it, a loss of 1 / (2n); one
// that counts as a thread among n + 1 takes 1 / (n + 1). Of 2 cores, a quarter to a third. Wakers
// that prefer the core of a neighbour make it up to a half.
//
// Usage: bench_contention [THREADS [ROUNDS]]

#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

#include "core/parallel.h"

namespace {

constexpr int kLoops = 200;  // of a token
constexpr int kTiles = 8;    // per thread and loop, for the pool that claims
constexpr int kMinTokens = 20;

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// A chain of additions that cannot be shortened: its time is that of the core, not of memory.
uint64_t work(int64_t steps) {
  auto x = static_cast<uint64_t>(steps);
  for (int64_t i = 0; i < steps; ++i) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    asm volatile("" : "+r"(x));
  }
  return x;
}

int64_t steps_of(double seconds) {
  double best = 1;
  constexpr int64_t kProbe = 1 << 20;
  for (int i = 0; i < 20; ++i) {
    const auto begin = Clock::now();
    work(kProbe);
    best = std::min(best, seconds_since(begin));
  }
  return std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(kProbe) * seconds / best));
}

// The usual way: every thread has its part, and every loop ends when the last has arrived.
class StaticPool {
 public:
  explicit StaticPool(int threads) : threads_(threads) {
    for (int i = 1; i < threads; ++i) {
      workers_.emplace_back([this, i] {
        uint32_t seen = 0;
        for (;;) {
          uint32_t now;
          while ((now = loop_.load(std::memory_order_acquire)) == seen) pause();
          seen = now;
          if (stop_) return;
          (*body_)(i);
          arrived_.fetch_add(1, std::memory_order_acq_rel);
        }
      });
    }
  }
  ~StaticPool() {
    stop_ = true;
    loop_.fetch_add(1);
    for (auto& w : workers_) w.join();
  }
  void run(const std::function<void(int)>& body) {
    body_ = &body;
    arrived_.store(0, std::memory_order_relaxed);
    loop_.fetch_add(1, std::memory_order_acq_rel);
    body(0);
    while (arrived_.load(std::memory_order_acquire) != threads_ - 1) pause();
  }

 private:
  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }

  const int threads_;
  std::vector<std::thread> workers_;
  const std::function<void(int)>* body_ = nullptr;
  std::atomic<bool> stop_{false};
  alignas(64) std::atomic<uint32_t> loop_{0};
  alignas(64) std::atomic<int> arrived_{0};
};

// A thread that keeps one of the allowed cores busy while it lives.
class Burner {
 public:
  Burner() : thread_([this] { burn(); }) {}
  ~Burner() {
    stop_ = true;
    thread_.join();
  }

 private:
  void burn() {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (::sched_getaffinity(0, sizeof(allowed), &allowed) == 0) {
      for (int c = 0; c < CPU_SETSIZE; ++c) {
        if (!CPU_ISSET(c, &allowed)) continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(c, &one);
        ::pthread_setaffinity_np(::pthread_self(), sizeof(one), &one);
        break;
      }
    }
    while (!stop_) work(10000);
  }
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// Tokens a second: for at least a fifth of a second.
double rate(const std::function<void()>& token) {
  token();
  const auto begin = Clock::now();
  int tokens = 0;
  double seconds = 0;
  while (tokens < kMinTokens || seconds < 0.2) {
    token();
    ++tokens;
    seconds = seconds_since(begin);
    if (seconds > 3) break;
  }
  return tokens / seconds;
}

int number(const char* text) { return static_cast<int>(std::strtol(text, nullptr, 10)); }

double median(std::vector<double> v) {
  std::ranges::sort(v);
  return v[v.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::max(1, number(argv[1])) : pith::thread_count();
  const int rounds = argc > 2 ? std::max(1, number(argv[2])) : 5;
  const int64_t share = steps_of(20e-6);

  const auto pith_rate = [&] {
    pith::ThreadPool pool(threads);
    return rate([&] {
      for (int l = 0; l < kLoops; ++l)
        pool.run(int64_t{kTiles} * threads, [&](int64_t) { work(share / kTiles); });
    });
  };
  const auto static_rate = [&] {
    StaticPool pool(threads);
    const std::function<void(int)> body = [&](int) { work(share); };
    return rate([&] {
      for (int l = 0; l < kLoops; ++l) pool.run(body);
    });
  };

  std::vector<double> pith_alone, pith_beside, static_alone, static_beside;
  for (int r = 0; r < rounds; ++r) {
    pith_alone.push_back(pith_rate());
    static_alone.push_back(static_rate());
    const Burner burner;
    pith_beside.push_back(pith_rate());
    static_beside.push_back(static_rate());
  }
  fmt::print("{} threads, {} loops of 20 us a token, medians of {} rounds, tokens/s\n", threads,
             kLoops, rounds);
  fmt::print("{:8} {:>8} {:>8} {:>8}\n", "pool", "alone", "beside", "loss");
  const auto line = [](const char* name, const std::vector<double>& alone,
                       const std::vector<double>& beside) {
    fmt::print("{:8} {:8.1f} {:8.1f} {:7.1f}%\n", name, median(alone), median(beside),
               100 * (1 - median(beside) / median(alone)));
  };
  line("pith", pith_alone, pith_beside);
  line("static", static_alone, static_beside);
  return 0;
}
