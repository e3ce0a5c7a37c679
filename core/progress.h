// Where long work reports how far it is, and asks whether it shall go on. The library only calls
// it; tools draw it.
#pragma once

#include <cstdint>
#include <string>

#include "core/cancel.h"

namespace pith {

class Progress {
 public:
  explicit Progress(const CancelToken& cancel = CancelToken::never()) : cancel_(cancel) {}
  virtual ~Progress() = default;
  // `done`: so much of it by an earlier run.
  virtual void begin(const std::string& what, int64_t total, int64_t done = 0) = 0;
  virtual void advance(int64_t done, const std::string& detail) = 0;  // done: so far, not a step
  virtual void end() = 0;
  virtual void note(const std::string& line) = 0;  // worth telling the user: a fallback, a warning

  const CancelToken& cancel() const { return cancel_; }
  void check() const { cancel_.check(); }  // Error(kCancelled) where the work shall stop

 private:
  const CancelToken& cancel_;
};

// Shows nothing.
class SilentProgress final : public Progress {
 public:
  using Progress::Progress;
  void begin(const std::string&, int64_t, int64_t = 0) override {}
  void advance(int64_t, const std::string&) override {}
  void end() override {}
  void note(const std::string&) override {}
};

Progress& no_progress();

}  // namespace pith
