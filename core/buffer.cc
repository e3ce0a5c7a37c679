#include "core/buffer.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "core/limits.h"

namespace pith {

std::byte* allocate_aligned(uint64_t count, uint64_t item_bytes) {
  constexpr uint64_t kHuge = 2 << 20, kLarge = 256 << 20;
  const auto gb = [](uint64_t n) { return static_cast<double>(n) / 1e9; };
  uint64_t bytes;
  if (__builtin_mul_overflow(count, item_bytes, &bytes))
    fail(ErrorKind::kMemory, "cannot allocate {} times {} bytes", count, item_bytes);
  // Memory is touched here: what the system cannot give would end the process, not this call.
  if (bytes >= kLarge) {
    const MemoryLimit most = most_memory();
    const uint64_t used = memory_in_use();
    if (used > most.bytes || bytes > most.bytes - used) {
      fail(ErrorKind::kMemory,
           "cannot allocate {} bytes: {:.2f} GB are in use, and there are {:.2f} GB at most ({})",
           bytes, gb(used), gb(most.bytes), most.by);
    }
  }
  const uint64_t align = bytes >= 2 * kHuge ? kHuge : 64;
  uint64_t total;
  void* p = nullptr;
  // Not rounded up to whole huge pages: of a few megabytes that would be a third more.
  if (__builtin_add_overflow(bytes, kSlack, &total) || ::posix_memalign(&p, align, total) != 0)
    fail(ErrorKind::kMemory, "cannot allocate {} bytes", bytes);
  if (align == kHuge) ::madvise(p, total, MADV_HUGEPAGE);
  std::memset(p, 0, bytes + kSlack);
  return static_cast<std::byte*>(p);
}

void free_aligned(std::byte* p) noexcept { std::free(p); }

}  // namespace pith
