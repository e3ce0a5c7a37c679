#include <malloc.h>

#include <csignal>

#include "core/file.h"
#include "tools/command.h"
#include "tools/interrupt.h"
#include "tools/terminal.h"

int main(int argc, char** argv) {
  pith::tools::prepare_streams();
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
