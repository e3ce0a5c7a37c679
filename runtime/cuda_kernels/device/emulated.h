// The words of device.cuh on the processor: every CUDA thread is a fibre that runs until it meets
// others. To find what a GPU might forgive today and not tomorrow,
//   - who runs next is drawn by a seed (set_emulation_seed): a missing barrier shows as a result
//     that depends on it;
//   - shared memory begins as NaN;
//   - asynchronous copies happen at the last moment that the waits allow;
//   - a thread of a kernel that may begin early and does not wait is an error;
//   - a block or a warp of which some are not at the meeting point, or at another one, is an error,
//     as are misaligned accesses through the functions below. Memory from GuardedBytes ends at a
//     page that cannot be read, and so does shared memory.
// Errors are thrown by launch() as Error(kUsage). One launch at a time per host thread.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/function_ref.h"

#define PITH_KERNEL [[maybe_unused]] static void
#define PITH_BLOCKS(threads, blocks)
#define PITH_DEVICE [[maybe_unused]] static inline
#define PITH_MEMBER
#define PITH_CONSTANT [[maybe_unused]] static const

namespace pith::cuda {

using ::exp;
using ::fabsf;
using ::fma;
using ::fmaf;
using ::fmaxf;
using ::fminf;
using ::ilogbf;
using ::ldexpf;
using ::log;
using ::rintf;
using ::sqrt;
using ::sqrtf;

namespace emulated {

// The running fibre.
struct Thread {
  int index, block_threads;
  int64_t block[3], grid[3];
  unsigned char* shared;
  bool waited = false;
};
const Thread& self();
void wait_for_previous();

void check_aligned(const void* p, uintptr_t to);
void run_grid(const Grid& grid, FunctionRef<void()> kernel);
void meet_block();
// All lanes come with the same `what`; the last to come runs it over the arguments of all 32.
using Together = void (*)(void* const* arguments);
void meet_warp(Together what, void* argument);
void copy_later(void* to, const void* from, bool valid);
void commit_copies();
void wait_copies(int but);

struct Shuffled {
  float value, result;
  int from;
};
void shuffle(void* const* lanes);
struct Mma {
  float* d;
  const uint32_t *a, *b;
};
struct Matrices {
  uint32_t* to;
  const void* row;
};
void load_matrices(void* const* lanes);
void load_transposed(void* const* lanes);
struct MmaInts {
  int32_t* d;
  const uint32_t *a, *b;
};
void mma_s8(void* const* lanes);
void mma_f16(void* const* lanes);
void mma_bf16(void* const* lanes);
inline void nothing(void* const*) {}

}  // namespace emulated

void set_emulation_seed(uint64_t seed);

// Launches while a recording is set are added to it instead of run.
using Recording = std::vector<std::function<void()>>;
extern thread_local Recording* recording;

// Memory that ends (up to 15 bytes of alignment) where a page that cannot be read begins.
class GuardedBytes {
 public:
  explicit GuardedBytes(uint64_t bytes);
  ~GuardedBytes();
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;
  unsigned char* data() const { return data_; }

 private:
  void* mapped_;
  uint64_t mapped_bytes_;
  unsigned char* data_;
};

PITH_DEVICE int thread_index() { return emulated::self().index; }
PITH_DEVICE int block_threads() { return emulated::self().block_threads; }
PITH_DEVICE int64_t block_x() { return emulated::self().block[0]; }
PITH_DEVICE int64_t block_y() { return emulated::self().block[1]; }
PITH_DEVICE int64_t block_z() { return emulated::self().block[2]; }
PITH_DEVICE int64_t grid_x() { return emulated::self().grid[0]; }
PITH_DEVICE unsigned char* shared_memory() { return emulated::self().shared; }
PITH_DEVICE void wait_for_previous() { emulated::wait_for_previous(); }
PITH_DEVICE void sync_block() { emulated::meet_block(); }
PITH_DEVICE void sync_warp() { emulated::meet_warp(emulated::nothing, nullptr); }
PITH_DEVICE float shuffle(float v, int from) {
  emulated::Shuffled s{v, 0, from};
  emulated::meet_warp(emulated::shuffle, &s);
  return s.result;
}
PITH_DEVICE uint32_t shuffle(uint32_t v, int from) {
  float bits;
  std::memcpy(&bits, &v, sizeof(bits));
  bits = shuffle(bits, from);
  std::memcpy(&v, &bits, sizeof(bits));
  return v;
}
PITH_DEVICE float shuffle_xor(float v, int mask) {
  return shuffle(v, emulated::self().index % 32 ^ mask);
}

template <class T>
T load_aligned(const void* p) {
  emulated::check_aligned(p, sizeof(T));
  T v;
  std::memcpy(&v, p, sizeof(T));
  return v;
}
PITH_DEVICE Bytes16 load_once16(const void* p) { return load_aligned<Bytes16>(p); }
PITH_DEVICE Bytes8 load_once8(const void* p) { return load_aligned<Bytes8>(p); }
PITH_DEVICE uint32_t load2(const void* p) { return load_aligned<uint16_t>(p); }
PITH_DEVICE uint32_t load4(const void* p) { return load_aligned<uint32_t>(p); }
PITH_DEVICE Bytes16 load16(const void* p) { return load_aligned<Bytes16>(p); }
PITH_DEVICE Bytes8 load8(const void* p) { return load_aligned<Bytes8>(p); }
PITH_DEVICE void store4(void* p, uint32_t v) {
  emulated::check_aligned(p, 4);
  std::memcpy(p, &v, 4);
}
PITH_DEVICE void store8(void* p, Bytes8 v) {
  emulated::check_aligned(p, 8);
  std::memcpy(p, &v, 8);
}
PITH_DEVICE void store16(void* p, Bytes16 v) {
  emulated::check_aligned(p, 16);
  std::memcpy(p, &v, 16);
}

PITH_DEVICE void copy_async16(void* to, const void* from, bool valid) {
  emulated::check_aligned(to, 16);
  emulated::check_aligned(from, 16);
  emulated::copy_later(to, from, valid);
}
PITH_DEVICE void commit_copies() { emulated::commit_copies(); }
template <int n>
PITH_DEVICE void wait_copies() {
  emulated::wait_copies(n);
}

PITH_DEVICE int32_t fetch_add(int32_t* p, int32_t v) { return std::exchange(*p, *p + v); }
PITH_DEVICE void fence_device() {}
template <class T>
PITH_DEVICE T load_fresh(const T* p) {
  return *p;
}
PITH_DEVICE Bytes16 load_fresh16(const void* p) { return load_aligned<Bytes16>(p); }

PITH_DEVICE float half_float(uint16_t h) { return f16_to_f32(h); }
PITH_DEVICE uint16_t float_half(float v) { return f32_to_f16(v); }
// Rounded to f32 and then to f16, which is the same where the result is exact, as here.
PITH_DEVICE uint32_t half2_fma(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d = 0;
  for (int at = 0; at < 32; at += 16) {
    const auto of = [at](uint32_t v) { return f16_to_f32(static_cast<uint16_t>(v >> at)); };
    d |= static_cast<uint32_t>(f32_to_f16(fmaf(of(a), of(b), of(c)))) << at;
  }
  return d;
}
PITH_DEVICE uint32_t and_or(uint32_t a, uint32_t mask, uint32_t b) { return (a & mask) | b; }
PITH_DEVICE float exp2_about(float x) { return std::exp2(x); }
PITH_DEVICE float reciprocal_about(float x) { return 1 / x; }
PITH_DEVICE void load_matrices(uint32_t* to, const void* row) {
  emulated::check_aligned(row, 16);
  emulated::Matrices m{to, row};
  emulated::meet_warp(emulated::load_matrices, &m);
}
PITH_DEVICE void load_transposed(uint32_t* to, const void* row) {
  emulated::check_aligned(row, 16);
  emulated::Matrices m{to, row};
  emulated::meet_warp(emulated::load_transposed, &m);
}
PITH_DEVICE void mma_f16(float* d, const uint32_t* a, const uint32_t* b) {
  emulated::Mma m{d, a, b};
  emulated::meet_warp(emulated::mma_f16, &m);
}
PITH_DEVICE void mma_bf16(float* d, const uint32_t* a, const uint32_t* b) {
  emulated::Mma m{d, a, b};
  emulated::meet_warp(emulated::mma_bf16, &m);
}

PITH_DEVICE void mma_s8(int32_t* d, const uint32_t* a, const uint32_t* b) {
  emulated::MmaInts m{d, a, b};
  emulated::meet_warp(emulated::mma_s8, &m);
}
PITH_DEVICE uint32_t select_bytes(uint32_t a, uint32_t b, uint32_t digits) {
  const uint64_t both = static_cast<uint64_t>(b) << 32 | a;
  uint32_t d = 0;
  for (int i = 0; i < 4; ++i)
    d |= static_cast<uint32_t>(both >> (8 * (digits >> (4 * i) & 7)) & 0xff) << (8 * i);
  return d;
}

PITH_DEVICE uint32_t add_bytes(uint32_t v, uint32_t sum) {
  for (int i = 0; i < 4; ++i) sum += v >> (8 * i) & 0xff;
  return sum;
}
PITH_DEVICE uint32_t funnel_shift(uint32_t low, uint32_t high, int shift) {
  return static_cast<uint32_t>((static_cast<uint64_t>(high) << 32 | low) >> shift);
}

template <class... Parameters, class... Arguments>
const char* launch(void (*kernel)(Parameters...), const Grid& grid, Stream,
                   Arguments... arguments) {
  const auto run = [=] { emulated::run_grid(grid, [&] { kernel(arguments...); }); };
  if (recording != nullptr)
    recording->push_back(run);
  else
    run();
  return nullptr;
}

}  // namespace pith::cuda
