#include "core/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>

#include "core/error.h"

namespace pith {
namespace {

std::atomic<bool> requested{false};

void on_signal(int) {
  if (requested.exchange(true)) ::_exit(130);
}

}  // namespace

void install_interrupt_handler() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return requested; }
void check_interrupt() {
  if (requested) fail(ErrorKind::kCancelled, "interrupted");
}

}  // namespace pith
