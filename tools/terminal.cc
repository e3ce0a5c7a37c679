#include "tools/terminal.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace pith::tools {

TerminalProgress::TerminalProgress(bool quiet) : quiet_(quiet), terminal_(::isatty(2) != 0) {}

void TerminalProgress::begin(const std::string& what, int64_t total) {
  what_ = what;
  total_ = std::max<int64_t>(1, total);
  begin_ = shown_ = Clock::now();
}

void TerminalProgress::advance(int64_t done, const std::string& detail) {
  if (quiet_) return;
  const auto now = Clock::now();
  const double since = std::chrono::duration<double>(now - shown_).count();
  if (since < (terminal_ ? 0.1 : 10.0)) return;
  shown_ = now;
  const double elapsed = std::chrono::duration<double>(now - begin_).count();
  const double share = static_cast<double>(done) / static_cast<double>(total_);
  const std::string left = done > 0 ? fmt::format("{:.0f} s left", elapsed / share - elapsed) : "";
  if (terminal_) {
    constexpr int kWidth = 30;
    const int filled = std::clamp(static_cast<int>(share * kWidth), 0, kWidth);
    tell("\r{} [{}{}] {:3.0f}% {} {}\033[K", what_, std::string(static_cast<size_t>(filled), '#'),
         std::string(static_cast<size_t>(kWidth - filled), '.'), 100 * share, left, detail);
    std::fflush(stderr);
  } else {
    tell("{}: {:.0f}% {} {}\n", what_, 100 * share, left, detail);
  }
}

void TerminalProgress::end() {
  if (!quiet_ && terminal_) tell("\r\033[K");
}

void TerminalProgress::note(const std::string& line) {
  if (!quiet_ && terminal_) tell("\r\033[K");
  tell("{}\n", line);
}

void print_out(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }
void print_err(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stderr); }

void warn(const std::string& line) { tell("warning: {}\n", line); }

std::string human_bytes(uint64_t bytes) {
  const auto b = static_cast<double>(bytes);
  if (b >= 1e9) return fmt::format("{:.2f} GB", b / 1e9);
  if (b >= 1e6) return fmt::format("{:.1f} MB", b / 1e6);
  if (b >= 1e3) return fmt::format("{:.1f} kB", b / 1e3);
  return fmt::format("{} B", bytes);
}

}  // namespace pith::tools
