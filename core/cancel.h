// A handle by which one thread, or a signal handler, asks others to stop at their next safe point.
// Whoever starts long work owns one and passes it along (options, Progress); the library only reads
// it.
#pragma once

#include <atomic>

namespace pith {

class CancelToken {
 public:
  CancelToken();
  ~CancelToken();
  CancelToken(const CancelToken&) = delete;
  CancelToken& operator=(const CancelToken&) = delete;
  // The default of every parameter: never cancelled.
  static const CancelToken& never();

  // Returns the reason of an earlier call, or 0; the first one stays. For signal handlers too.
  int cancel(int reason = 1) noexcept;
  void clear();  // for programs that answer a cancellation and go on
  int reason() const { return reason_; }
  bool cancelled() const { return reason_ != 0; }
  void check() const;  // Error(kCancelled)
  // Waits until something can be read from the descriptor, or its end: true; false once cancelled,
  // be it before the call or on another thread.
  bool wait_for_input(int descriptor) const;

 private:
  enum class Never {};
  explicit CancelToken(Never) {}

  std::atomic<int> reason_{0};
  // Readable while cancelled, so that poll() returns for what came just before it. -1: none.
  int wake_ = -1;
};

}  // namespace pith
