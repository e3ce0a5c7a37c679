// What people see: progress, warnings, sizes.
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <string>
#include <string_view>

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

// Text for people: say() to standard output, tell() to standard error. The only two ways out, so
// that what files say is printed without their control characters.
void print_out(std::string_view text);
void print_err(std::string_view text);
template <class... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
  print_out(fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void tell(fmt::format_string<Args...> format, Args&&... args) {
  print_err(fmt::format(format, std::forward<Args>(args)...));
}
void warn(const std::string& line);       // to standard error
std::string human_bytes(uint64_t bytes);  // "85.6 MB"

}  // namespace pith::tools
