#include <malloc.h>
#include <sys/mman.h>

#include <atomic>
#include <csignal>
#include <exception>
#include <new>

#include "core/file.h"
#include "tools/command.h"
#include "tools/interrupt.h"
#include "tools/terminal.h"

namespace {

// The destructor of a JSON tree allocates. Where memory has run out and an exception is on its way,
// this address space is given up once, so that what it passes can be destroyed; else the program
// would end there without a word.
std::atomic<void*> reserve;
constexpr size_t kReserve = size_t{64} << 20;

void on_no_memory() {
  if (std::uncaught_exceptions() > 0) {
    if (void* const given_up = reserve.exchange(nullptr)) {
      ::munmap(given_up, kReserve);
      return;  // which tries the allocation again
    }
  }
  throw std::bad_alloc();
}

}  // namespace

int main(int argc, char** argv) {
  pith::tools::prepare_streams();
  // Without access: it takes no memory.
  void* const space =
      ::mmap(nullptr, kReserve, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (space != MAP_FAILED) reserve = space;
  std::set_new_handler(on_no_memory);
#ifdef __GLIBC__
  // Weights that are freed go back to the system at once. Left to itself, glibc learns to keep
  // them.
  ::mallopt(M_MMAP_THRESHOLD, 1 << 20);
#endif
  // Writing to a pipe that nobody reads is an error of the write and does not kill the program.
  std::signal(SIGPIPE, SIG_IGN);
  pith::install_mapping_guard();
  pith::tools::install_interrupt_handler();
  return pith::tools::run(argc, argv);
}
