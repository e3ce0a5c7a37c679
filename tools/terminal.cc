#include "tools/terminal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <set>

#include "core/error.h"
#include "core/utf8.h"
#include "tools/interrupt.h"

namespace pith::tools {
namespace {

// The state of standard output and standard error.
struct Streams {
  std::string out;         // not yet written
  bool open_line = false;  // standard output stands inside a line
  bool bar = false;        // standard error shows a bar
  bool closed = false;     // standard output was, when the program began
  bool required = false;   // and that is an error
  int failure = 0;         // errno of standard output's first failed write
  bool reported = false;   // it was thrown
};
Streams& streams() {
  static Streams s;
  return s;
}

// errno, or 0 where all of it was written. A descriptor that does not block is waited for.
int write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(descriptor, text.data(), text.size());
    if (n >= 0) {
      text.remove_prefix(static_cast<size_t>(n));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      pollfd p{descriptor, POLLOUT, 0};
      ::poll(&p, 1, -1);
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

void write_out() {
  Streams& s = streams();
  const bool lost = s.closed && s.required && !s.out.empty();
  if (s.failure == 0) s.failure = lost ? EBADF : write_all(1, s.out);
  s.out.clear();
}

// Whether both streams end in the same place, so that a line of one can continue that of the other.
bool same_place() {
  static const bool same = [] {
    struct stat out, err;
    if (::fstat(1, &out) != 0 || ::fstat(2, &err) != 0) return false;
    return out.st_dev == err.st_dev && out.st_ino == err.st_ino;
  }();
  return same;
}

void write_err(std::string_view text) {
  Streams& s = streams();
  write_out();
  std::string whole;
  if (s.open_line && same_place()) {
    whole += '\n';
    s.open_line = false;
  }
  if (s.bar) whole += "\r\033[K";
  s.bar = false;
  write_all(2, whole.append(text));
}

}  // namespace

void prepare_streams() {
  for (int descriptor = 0; descriptor <= 2; ++descriptor) {
    if (::fcntl(descriptor, F_GETFD) >= 0 || errno != EBADF) continue;
    // open() returns the lowest free descriptor, which is this one. Without /dev, "/" takes the
    // place.
    if (descriptor == 1) streams().closed = true;
    if (::open("/dev/null", O_RDWR) < 0 && ::open("/", O_RDONLY) < 0) return;
  }
}

void require_output() { streams().required = true; }

std::string escaped(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  const auto byte = [&](char c) { out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c)); };
  while (!text.empty()) {
    const size_t valid = valid_utf8_prefix(text);
    for (size_t i = 0; i < valid; ++i) {
      const auto u = static_cast<unsigned char>(text[i]);
      const bool c1 = u == 0xc2 && i + 1 < valid && static_cast<unsigned char>(text[i + 1]) < 0xa0;
      if (c1) {
        byte(text[i]);
        byte(text[++i]);
      } else if ((u < 0x20 && u != '\n' && u != '\t') || u == 0x7f) {
        if (u == '\r' && i + 1 < text.size() && text[i + 1] == '\n') continue;
        byte(text[i]);
      } else {
        out += text[i];
      }
    }
    text.remove_prefix(valid);
    if (text.empty()) break;
    byte(text[0]);
    text.remove_prefix(1);
  }
  return out;
}

std::string one_line(std::string_view text) {
  std::string out;
  for (const char c : escaped(text)) {
    if (c == '\n' || c == '\t')
      out += c == '\n' ? "\\n" : "\\t";
    else
      out += c;
  }
  return out;
}

void print_raw(std::string_view text) {
  if (text.empty()) return;
  Streams& s = streams();
  if (s.reported) return;
  s.out += text;
  s.open_line = text.back() != '\n';
  static const bool at_once = is_terminal(1);
  if (at_once || s.out.size() >= size_t{1} << 16) flush_out();
}
void print_out(std::string_view text) { print_raw(escaped(text)); }
void print_err(std::string_view text) { write_err(escaped(text)); }

void tell_dimly(const std::string& text) {
  const bool dim = shows_colours(2);
  write_err((dim ? "\033[2m" : "") + escaped(text) + (dim ? "\033[0m" : ""));
}

void flush_out() {
  write_out();
  Streams& s = streams();
  if (s.failure == 0 || s.reported) return;
  s.reported = true;
  if (s.failure == EPIPE) throw ReaderGone();
  fail(ErrorKind::kIo, "cannot write to standard output: {}",
       s.failure == EBADF ? "it is closed" : std::strerror(s.failure));
}

void warn(const std::string& line) {
  static std::set<std::string> said;
  if (said.insert(line).second) tell("warning: {}\n", one_line(line));
}

bool is_plain_word(std::string_view word) {
  return std::ranges::all_of(word, [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || std::strchr("_-./:+,@%=", c) != nullptr;
  });
}

std::string counted(int64_t n, const std::string& noun) {
  return fmt::format("{} {}{}", n, noun, n == 1 ? "" : "s");
}

std::string human_bytes(uint64_t bytes) {
  const auto b = static_cast<double>(bytes);
  if (b >= 1e9) return fmt::format("{:.2f} GB", b / 1e9);
  if (b >= 1e6) return fmt::format("{:.1f} MB", b / 1e6);
  if (b >= 1e3) return fmt::format("{:.1f} kB", b / 1e3);
  return fmt::format("{} B", bytes);
}

std::string human_time(double seconds) {
  const auto s = static_cast<int64_t>(std::clamp(seconds, 0.0, 3.6e9));
  return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

bool is_terminal(int descriptor) { return ::isatty(descriptor) != 0; }

int columns(int descriptor) {
  winsize size{};
  if (::ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  int named = 0;
  if (const char* text = std::getenv("COLUMNS"))
    std::from_chars(text, text + std::strlen(text), named);
  return named > 0 ? named : 80;
}

bool shows_colours(int descriptor) {
  const char *none = std::getenv("NO_COLOR"), *kind = std::getenv("TERM");
  if (none != nullptr && *none != '\0') return false;
  return is_terminal(descriptor) && kind != nullptr && std::string_view(kind) != "dumb";
}

std::string progress_line(const ProgressState& state, int width, bool bar) {
  std::string line = fmt::format("{} {:3.0f} %", state.what, 100 * std::clamp(state.share, 0., 1.));
  const auto space = [&] { return width - static_cast<int>(line.size()); };
  std::string times = human_time(state.elapsed);
  if (state.left >= 0) times += ", " + human_time(state.left) + " left";
  const int bars = std::min(30, space() - static_cast<int>(times.size()) - 4);
  if (bar && bars >= 8) {
    const int filled = std::clamp(static_cast<int>(state.share * bars), 0, bars);
    line += " [" + std::string(static_cast<size_t>(filled), '#') +
            std::string(static_cast<size_t>(bars - filled), '.') + "]";
  }
  if (space() > static_cast<int>(times.size())) line += " " + times;
  if (!state.detail.empty() && space() > 8) line += "  " + one_line(state.detail);
  if (space() < 0) {
    auto end = static_cast<size_t>(std::max(0, width));
    while (end > 0 && (line[end] & 0xc0) == 0x80) --end;  // between characters
    line.resize(end);
  }
  return line;
}

TerminalProgress::TerminalProgress(bool quiet)
    : Progress(interrupt()), quiet_(quiet), terminal_(is_terminal(2)) {}
TerminalProgress::~TerminalProgress() { end(); }

void TerminalProgress::begin(const std::string& what, int64_t total, int64_t done) {
  what_ = what;
  total_ = std::max<int64_t>(1, total);
  first_ = done;
  begin_ = Clock::now();
  show(done, "");
}

void TerminalProgress::advance(int64_t done, const std::string& detail) {
  const double since = std::chrono::duration<double>(Clock::now() - shown_).count();
  if (since >= (terminal_ ? 0.1 : 10.0)) show(done, detail);
}

void TerminalProgress::show(int64_t done, const std::string& detail) {
  shown_ = Clock::now();
  if (quiet_) return;
  ProgressState state{.what = what_, .detail = detail};
  state.elapsed = std::chrono::duration<double>(shown_ - begin_).count();
  state.share = static_cast<double>(done) / static_cast<double>(total_);
  if (done > first_) {
    state.left =
        state.elapsed * static_cast<double>(total_ - done) / static_cast<double>(done - first_);
  }
  if (terminal_) {
    write_err(progress_line(state, columns(2) - 1, true));
    streams().bar = true;
  } else {
    write_err(progress_line(state, 1 << 20, false) + "\n");
  }
}

void TerminalProgress::end() {
  if (streams().bar) write_err("");
}

void TerminalProgress::note(const std::string& line) { tell("{}\n", one_line(line)); }

}  // namespace pith::tools
