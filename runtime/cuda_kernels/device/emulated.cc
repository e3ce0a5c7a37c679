#undef _FORTIFY_SOURCE  // whose longjmp refuses to change stacks
#include "runtime/cuda_kernels/device/device.cuh"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <exception>
#include <memory>
#include <numeric>
#include <vector>

#include "core/error.h"
#include "core/rng.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

namespace pith::cuda {

GuardedBytes::GuardedBytes(uint64_t bytes) {
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const uint64_t rounded = (bytes + 15) / 16 * 16, readable = (rounded + page - 1) / page * page;
  mapped_bytes_ = readable + page;
  mapped_ =
      ::mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped_ == MAP_FAILED) fail(ErrorKind::kMemory, "cannot map {} bytes", mapped_bytes_);
  auto* const wall = static_cast<unsigned char*>(mapped_) + readable;
  ::mprotect(wall, page, PROT_NONE);
  data_ = wall - rounded;
}
GuardedBytes::~GuardedBytes() { ::munmap(mapped_, mapped_bytes_); }

namespace emulated {
namespace {

constexpr size_t kStackBytes = 64 * 1024;

struct Copy {
  void* to;
  const void* from;
  bool valid;
};

enum class State : uint8_t { kReady, kAtBlock, kAtWarp, kDone };

struct Context {
  ucontext_t first;  // where it begins
  jmp_buf next;      // where it goes on: unlike swapcontext, without asking the system
  bool started = false;
};

struct Fibre {
  Context context;
  std::unique_ptr<unsigned char[]> stack;
  Thread thread;
  State state;
  Together together;
  void* argument;
  std::vector<std::vector<Copy>> copies;  // groups; the last is still open
};

// The threads of one block.
class Block {
 public:
  Block(const Grid& grid, uint64_t seed, FunctionRef<void()> kernel)
      : kernel_(kernel), rng_(seed), shared_(static_cast<uint64_t>(grid.shared_bytes)) {
    fibres_.resize(static_cast<size_t>(grid.threads));
    for (auto& f : fibres_) f.stack = std::make_unique_for_overwrite<unsigned char[]>(kStackBytes);
    shared_bytes_ = static_cast<size_t>(grid.shared_bytes);
    early_ = grid.early;
  }

  void run(const Grid& grid, const int64_t* index);

  Fibre& current() { return *current_; }
  Rng& rng() { return rng_; }

  void meet_block() {
    current_->state = State::kAtBlock;
    if (done_ > 0) fail(ErrorKind::kUsage, "threads ended before a barrier that others wait at");
    if (++at_block_ == fibres_.size()) {
      at_block_ = 0;
      for (auto& f : fibres_) make_ready(f);
    }
    next();
  }

  void meet_warp(Together together, void* argument) {
    Fibre* const lanes = &fibres_[static_cast<size_t>(current_->thread.index / 32 * 32)];
    current_->state = State::kAtWarp;
    current_->together = together;
    current_->argument = argument;
    void* arguments[32];
    bool all = true;
    for (int i = 0; i < 32; ++i) {
      arguments[i] = lanes[i].argument;
      if (lanes[i].state == State::kDone || lanes[i].state == State::kAtBlock)
        fail(ErrorKind::kUsage, "lanes of a warp are not at the same meeting point");
      if (lanes[i].state != State::kAtWarp) {
        all = false;
      } else if (lanes[i].together != together) {
        fail(ErrorKind::kUsage, "lanes of a warp meet for different things");
      }
    }
    if (all) {
      together(arguments);
      for (int i = 0; i < 32; ++i) make_ready(lanes[i]);
    }
    next();
  }

 private:
  static void enter();
  static void prepare(Fibre& f) {
    ::getcontext(&f.context.first);
    f.context.first.uc_stack = {f.stack.get(), 0, kStackBytes};
    f.context.first.uc_link = nullptr;
    ::makecontext(&f.context.first, &Block::enter, 0);
    f.context.started = false;
  }

  void make_ready(Fibre& f) {
    f.state = State::kReady;
    ready_.push_back(&f);
  }

  // Another fibre, drawn among those that can run; back to run() where all are done.
  void next() {
    Fibre* const from = current_;
    Fibre* to = nullptr;
    if (!ready_.empty()) {
      const size_t i = rng_.next() % ready_.size();
      to = ready_[i];
      ready_[i] = ready_.back();
      ready_.pop_back();
    } else if (done_ < fibres_.size() && !error_) {
      fail(ErrorKind::kUsage, "threads wait for each other");
    }
    if (to == from) return;
    current_ = to;
    switch_to(from->context, to ? to->context : home_, to ? to->stack.get() : nullptr,
              from->state == State::kDone);
  }

  void switch_to(Context& from, Context& to, [[maybe_unused]] const void* stack,
                 [[maybe_unused]] bool leaves) {
#ifdef __SANITIZE_ADDRESS__
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(leaves ? nullptr : &fake, stack ? stack : home_stack_,
                                   stack ? kStackBytes : home_bytes_);
    ::swapcontext(&from.first, &to.first);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
    if (_setjmp(from.next) != 0) return;
    if (to.started) _longjmp(to.next, 1);
    to.started = true;
    ::setcontext(&to.first);
#endif
  }

  FunctionRef<void()> kernel_;
  Rng rng_;
  GuardedBytes shared_;
  size_t shared_bytes_;
  bool early_;
  std::vector<Fibre> fibres_;
  std::vector<Fibre*> ready_;
  Fibre* current_ = nullptr;
  size_t at_block_ = 0, done_ = 0;
  std::exception_ptr error_;
  Context home_;
  [[maybe_unused]] const void* home_stack_ = nullptr;
  [[maybe_unused]] size_t home_bytes_ = 0;
};

thread_local Block* running = nullptr;
uint64_t emulation_seed = 1;

void Block::enter() {
  Block& b = *running;
#ifdef __SANITIZE_ADDRESS__
  const void* stack;
  size_t bytes;
  __sanitizer_finish_switch_fiber(nullptr, &stack, &bytes);
  if (b.home_stack_ == nullptr) {
    b.home_stack_ = stack;
    b.home_bytes_ = bytes;
  }
#endif
  try {
    b.kernel_();
    b.current_->state = State::kDone;
    ++b.done_;
    if (b.early_ && !b.current_->thread.waited)
      fail(ErrorKind::kUsage, "a thread did not wait for the kernel before its own");
    if (b.at_block_ > 0)
      fail(ErrorKind::kUsage, "threads ended before a barrier that others wait at");
    const size_t first = static_cast<size_t>(b.current_->thread.index / 32 * 32);
    for (size_t i = first; i < first + 32; ++i) {
      if (b.fibres_[i].state == State::kAtWarp)
        fail(ErrorKind::kUsage, "lanes of a warp ended before a meeting that others wait at");
    }
    b.next();
  } catch (...) {
    b.error_ = std::current_exception();
  }
  // Straight home: what others have on their stacks is forgotten.
  b.current_->state = State::kDone;
  b.switch_to(b.current_->context, b.home_, nullptr, true);
}

void Block::run(const Grid& grid, const int64_t* index) {
  std::memset(shared_.data(), 0xff, shared_bytes_);
  done_ = at_block_ = 0;
  ready_.clear();
  for (size_t i = 0; i < fibres_.size(); ++i) {
    Fibre& f = fibres_[i];
    f.thread = {static_cast<int>(i),      grid.threads,   {index[0], index[1], index[2]},
                {grid.x, grid.y, grid.z}, shared_.data(), false};
    f.copies.assign(1, {});
    prepare(f);
    make_ready(f);
  }
  home_.started = true;
  running = this;
  current_ = ready_.back();
  ready_.pop_back();
  switch_to(home_, current_->context, current_->stack.get(), false);
  running = nullptr;
  if (error_) std::rethrow_exception(error_);
}

}  // namespace

const Thread& self() { return running->current().thread; }
void wait_for_previous() { running->current().thread.waited = true; }

void check_aligned(const void* p, uintptr_t to) {
  if (reinterpret_cast<uintptr_t>(p) % to != 0)
    fail(ErrorKind::kUsage, "an access of {} bytes is not aligned to them", to);
}

void run_grid(const Grid& grid, FunctionRef<void()> kernel) {
  if (grid.threads < 32 || grid.threads > 1024 || grid.threads % 32 != 0)
    fail(ErrorKind::kUsage, "blocks of {} threads", grid.threads);
  if (grid.shared_bytes > 227 * 1024)
    fail(ErrorKind::kUsage, "{} bytes of shared memory", grid.shared_bytes);
  if (grid.y > 65535 || grid.z > 65535) fail(ErrorKind::kUsage, "a grid too large");
  Block block(grid, emulation_seed, kernel);
  std::vector<int64_t> order(static_cast<size_t>(grid.x * grid.y * grid.z));
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[block.rng().next() % i]);
  for (const int64_t i : order) {
    const int64_t index[3] = {i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y};
    block.run(grid, index);
  }
}

void meet_block() { running->meet_block(); }
void meet_warp(Together what, void* argument) { running->meet_warp(what, argument); }

void copy_later(void* to, const void* from, bool valid) {
  running->current().copies.back().push_back({to, from, valid});
}
void commit_copies() { running->current().copies.emplace_back(); }
void wait_copies(int but) {
  auto& groups = running->current().copies;
  while (groups.size() > static_cast<size_t>(but) + 1) {
    for (const Copy& c : groups.front()) {
      if (c.valid)
        std::memcpy(c.to, c.from, 16);
      else
        std::memset(c.to, 0, 16);
    }
    groups.erase(groups.begin());
  }
}

void shuffle(void* const* lanes) {
  for (int i = 0; i < 32; ++i) {
    auto* const s = static_cast<Shuffled*>(lanes[i]);
    s->result = static_cast<const Shuffled*>(lanes[s->from & 31])->value;
  }
}

namespace {

// Row r and columns c of matrix j: element(j, r, c), of which lane 4 g + t takes a pair.
template <class Pair>
void load_pairs(void* const* lanes, Pair pair_of) {
  const auto element = [&](int j, int row, int column) {
    const auto* const from = static_cast<const Matrices*>(lanes[8 * j + row]);
    uint16_t half;
    std::memcpy(&half, static_cast<const unsigned char*>(from->row) + 2 * column, 2);
    return static_cast<uint32_t>(half);
  };
  for (int i = 0; i < 32; ++i) {
    for (int j = 0; j < 4; ++j)
      static_cast<const Matrices*>(lanes[i])->to[j] = pair_of(element, j, i / 4, i % 4);
  }
}

}  // namespace

void load_matrices(void* const* lanes) {
  load_pairs(lanes, [](auto element, int j, int g, int t) {
    return element(j, g, 2 * t) | element(j, g, 2 * t + 1) << 16;
  });
}
void load_transposed(void* const* lanes) {
  load_pairs(lanes, [](auto element, int j, int g, int t) {
    return element(j, 2 * t, g) | element(j, 2 * t + 1, g) << 16;
  });
}

namespace {

// d[16, 8] += a[16, 16] b[16, 8]; sums in f64 are rounded once.
template <class ToFloat>
void mma(void* const* lanes, ToFloat to_float) {
  float a[16][16], b[16][8];
  for (int i = 0; i < 32; ++i) {
    const Mma& m = *static_cast<const Mma*>(lanes[i]);
    const int g = i / 4, t = i % 4;
    for (int pair = 0; pair < 4; ++pair) {
      for (int half = 0; half < 2; ++half) {
        a[g + 8 * (pair % 2)][2 * t + 8 * (pair / 2) + half] =
            to_float(static_cast<uint16_t>(m.a[pair] >> (16 * half)));
      }
    }
    for (int pair = 0; pair < 2; ++pair) {
      for (int half = 0; half < 2; ++half)
        b[2 * t + 8 * pair + half][g] = to_float(static_cast<uint16_t>(m.b[pair] >> (16 * half)));
    }
  }
  for (int i = 0; i < 32; ++i) {
    const Mma& m = *static_cast<const Mma*>(lanes[i]);
    for (int j = 0; j < 4; ++j) {
      const int row = i / 4 + 8 * (j / 2), column = 2 * (i % 4) + j % 2;
      double sum = static_cast<double>(m.d[j]);
      for (int k = 0; k < 16; ++k)
        sum += static_cast<double>(a[row][k]) * static_cast<double>(b[k][column]);
      m.d[j] = static_cast<float>(sum);
    }
  }
}

}  // namespace

void mma_s8(void* const* lanes) {
  const auto byte = [](uint32_t word, int i) { return static_cast<int8_t>(word >> (8 * i)); };
  int a[16][32], b[32][8];
  for (int i = 0; i < 32; ++i) {
    const MmaInts& m = *static_cast<const MmaInts*>(lanes[i]);
    const int g = i / 4, t = i % 4;
    for (int j = 0; j < 4; ++j) {
      for (int w = 0; w < 4; ++w) a[g + 8 * (w % 2)][4 * t + 16 * (w / 2) + j] = byte(m.a[w], j);
      for (int w = 0; w < 2; ++w) b[4 * t + 16 * w + j][g] = byte(m.b[w], j);
    }
  }
  for (int i = 0; i < 32; ++i) {
    const MmaInts& m = *static_cast<const MmaInts*>(lanes[i]);
    for (int j = 0; j < 4; ++j) {
      for (int k = 0; k < 32; ++k) m.d[j] += a[i / 4 + 8 * (j / 2)][k] * b[k][2 * (i % 4) + j % 2];
    }
  }
}
void mma_f16(void* const* lanes) {
  mma(lanes, [](uint16_t h) { return f16_to_f32(h); });
}
void mma_bf16(void* const* lanes) {
  mma(lanes, [](uint16_t h) { return bf16_to_f32(h); });
}

}  // namespace emulated

thread_local Recording* recording = nullptr;

void set_emulation_seed(uint64_t seed) { emulated::emulation_seed = seed; }

}  // namespace pith::cuda
