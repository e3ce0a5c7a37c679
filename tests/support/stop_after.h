// A progress display that cancels the work after some units, as Ctrl-C would.
#pragma once

#include <cstdint>
#include <string>

#include "core/error.h"
#include "core/progress.h"

namespace pith::test {

class StopAfter final : public Progress {
 public:
  explicit StopAfter(int64_t units) : units_(units) {}
  void begin(const std::string&, int64_t, int64_t) override {}
  void advance(int64_t done, const std::string&) override {
    if (done == units_) fail(ErrorKind::kCancelled, "enough");
  }
  void end() override {}
  void note(const std::string&) override {}

 private:
  int64_t units_;
};

}  // namespace pith::test
