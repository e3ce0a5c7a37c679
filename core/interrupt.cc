#include "core/interrupt.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "core/error.h"

namespace pith {
namespace {

std::atomic<int> requested{0};
// Readable from a signal until clear_interrupt(), so that poll() returns for a signal that came
// just before it, or that another thread got. -1: the system gives none.
int wake = -1;

void on_signal(int signal) {
  if (requested.exchange(signal) != 0) ::_exit(128 + signal);
  const int before = errno;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t ignored = ::write(wake, &one, sizeof(one));
  errno = before;
}

}  // namespace

void install_interrupt_handler() {
  if (wake < 0) wake = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
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
bool wait_for_input(int descriptor) {
  constexpr int kStep = 200;  // ms, where nothing wakes the wait
  while (!interrupted()) {
    pollfd p[] = {{descriptor, POLLIN, 0}, {wake, POLLIN, 0}};
    const int ready = ::poll(p, 2, wake < 0 ? kStep : -1);
    if (interrupted()) break;
    if (p[0].revents != 0 || (ready < 0 && errno != EINTR)) return true;
  }
  return false;
}
void clear_interrupt() {
  uint64_t unused = 0;
  [[maybe_unused]] const ssize_t ignored = ::read(wake, &unused, sizeof(unused));
  requested = 0;
}
void check_interrupt() {
  if (requested != 0) fail(ErrorKind::kCancelled, "interrupted");
}

}  // namespace pith
