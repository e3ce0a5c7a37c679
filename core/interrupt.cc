#include "core/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>

#include "core/error.h"

namespace pith {
namespace {

std::atomic<int> requested{0};

void on_signal(int signal) {
  if (requested.exchange(signal) != 0) ::_exit(128 + signal);
}

}  // namespace

void install_interrupt_handler() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before {};
    ::sigaction(signal, nullptr, &before);
    if (signal != SIGHUP || before.sa_handler != SIG_IGN) ::sigaction(signal, &action, nullptr);
  }
}

bool interrupted() { return requested != 0; }
int interrupt_signal() { return requested; }
void clear_interrupt() { requested = 0; }
void check_interrupt() {
  if (requested != 0) fail(ErrorKind::kCancelled, "interrupted");
}

}  // namespace pith
