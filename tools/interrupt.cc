#include "tools/interrupt.h"

#include <signal.h>
#include <unistd.h>

namespace pith::tools {
namespace {

void on_signal(int signal) {
  if (interrupt().cancel(signal) != 0) ::_exit(128 + signal);
}

}  // namespace

CancelToken& interrupt() {
  static CancelToken token;
  return token;
}

void install_interrupt_handler() {
  interrupt();  // made here, not in the handler
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before {};
    ::sigaction(signal, nullptr, &before);
    if (signal != SIGHUP || before.sa_handler != SIG_IGN) ::sigaction(signal, &action, nullptr);
  }
}

}  // namespace pith::tools
