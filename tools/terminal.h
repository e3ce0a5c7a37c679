// Output for users: text, progress, warnings, sizes. The only file that writes to standard output
// and standard error, so that text of files and models is printed without control characters, and
// so that closed, full and broken streams are handled in one way:
//
//   standard error    messages that cannot be written are dropped
//   standard output   closed from the start: as if every write failed, where the program says so
//                     with require_output()
//                     nobody reads the pipe: ReaderGone, which ends the program silently with 141;
//                     any other failure: Error(kIo), once
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <string>
#include <string_view>

#include "core/progress.h"

namespace pith::tools {

struct ReaderGone {};

// Descriptors 0 to 2 that are closed lead to /dev/null from now on, so that no file that is opened
// later takes their place. Called once by main, before anything is opened.
void prepare_streams();
// From now on a standard output that was closed is an error of what is written to it; until then
// that is lost.
void require_output();

// Control characters (C0, DEL, C1) and invalid bytes as \xNN; tabs and ends of lines stay.
std::string escaped(std::string_view text);
// The same for a name inside a line: ends of lines and tabs as well.
std::string one_line(std::string_view text);

// Text for people: say() to standard output, tell() to standard error, both escaped. Output is
// buffered where no terminal reads it; flush_out() where somebody waits for it. What goes to
// standard error comes after what went to standard output, on a line of its own.
void print_out(std::string_view text);
void print_err(std::string_view text);
void print_raw(std::string_view text);  // to standard output, as it is: JSON, our own colours
void flush_out();
template <class... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
  print_out(fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void tell(fmt::format_string<Args...> format, Args&&... args) {
  print_err(fmt::format(format, std::forward<Args>(args)...));
}
void tell_dimly(const std::string& text);   // in grey where colours are shown
void warn(const std::string& line);         // to standard error; the same line only once
std::string human_bytes(uint64_t bytes);    // "85.6 MB"
std::string human_time(double seconds);     // "1:02:03"
bool is_plain_word(std::string_view word);  // a shell takes it without quotes
std::string counted(int64_t n, const std::string& noun);  // "1 window", "2 windows"

bool is_terminal(int descriptor);
// Columns of the terminal; elsewhere those that COLUMNS names, or 80.
int columns(int descriptor);
// Whether a terminal that shows colours reads this descriptor, and NO_COLOR is not set.
bool shows_colours(int descriptor);

// Progress on standard error: on a terminal a bar that fits its width, elsewhere a line at the
// start and then every ten seconds.
class TerminalProgress final : public Progress {
 public:
  explicit TerminalProgress(bool quiet);
  ~TerminalProgress() override;
  void begin(const std::string& what, int64_t total, int64_t done = 0) override;
  void advance(int64_t done, const std::string& detail) override;
  void end() override;
  void note(const std::string& line) override;

 private:
  using Clock = std::chrono::steady_clock;
  void show(int64_t done, const std::string& detail);

  bool quiet_, terminal_;
  std::string what_;
  int64_t total_ = 1, first_ = 0;  // first_: done before this run
  Clock::time_point begin_, shown_;
};

// One display: "compressing  42 % [####......] 0:01:10, 0:02:00 left  layers.3.mlp.down", cut to
// `width` columns, of which the bar is given up first. `left` below 0 is not known.
struct ProgressState {
  std::string what, detail;
  double share = 0, elapsed = 0, left = -1;
};
std::string progress_line(const ProgressState& state, int width, bool bar);

}  // namespace pith::tools
