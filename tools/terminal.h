// What people see: progress, warnings, sizes.
#pragma once

#include <chrono>
#include <string>

#include "core/progress.h"

namespace pith::tools {

// A bar with the time left on a terminal, a line every few seconds elsewhere; on standard error.
class TerminalProgress final : public Progress {
 public:
  explicit TerminalProgress(bool quiet);
  void begin(const std::string& what, int64_t total) override;
  void advance(int64_t done, const std::string& detail) override;
  void end() override;
  void note(const std::string& line) override;

 private:
  using Clock = std::chrono::steady_clock;
  bool quiet_, terminal_;
  std::string what_;
  int64_t total_ = 0;
  Clock::time_point begin_, shown_;
};

void warn(const std::string& line);
std::string human_bytes(uint64_t bytes);  // "85.6 MB"

}  // namespace pith::tools
