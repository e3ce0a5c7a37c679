#include <csignal>

#include "core/file.h"
#include "core/interrupt.h"
#include "tools/command.h"

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  pith::install_mapping_guard();
  pith::install_interrupt_handler();
  return pith::tools::run(argc, argv);
}
