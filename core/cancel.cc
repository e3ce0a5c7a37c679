#include "core/cancel.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "core/error.h"

namespace pith {

CancelToken::CancelToken() : wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
CancelToken::~CancelToken() {
  if (wake_ >= 0) ::close(wake_);
}

const CancelToken& CancelToken::never() {
  static const CancelToken token(Never{});
  return token;
}

int CancelToken::cancel(int reason) noexcept {
  int before = 0;
  if (!reason_.compare_exchange_strong(before, reason)) return before;
  const int saved = errno;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t ignored = ::write(wake_, &one, sizeof(one));
  errno = saved;
  return 0;
}

void CancelToken::clear() {
  uint64_t unused = 0;
  [[maybe_unused]] const ssize_t ignored = ::read(wake_, &unused, sizeof(unused));
  reason_ = 0;
}

void CancelToken::check() const {
  if (cancelled()) fail(ErrorKind::kCancelled, "interrupted");
}

bool CancelToken::wait_for_input(int descriptor) const {
  constexpr int kStep = 200;  // ms, where nothing wakes the wait
  while (!cancelled()) {
    pollfd p[] = {{descriptor, POLLIN, 0}, {wake_, POLLIN, 0}};
    const int ready = ::poll(p, 2, wake_ < 0 ? kStep : -1);
    if (cancelled()) break;
    if (p[0].revents != 0 || (ready < 0 && errno != EINTR)) return true;
  }
  return false;
}

}  // namespace pith
