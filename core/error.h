// The one exception type of pith. The library throws nothing else, never prints and never aborts on
// input. A kind says what the caller can do about it; the message names file, tensor, offset and
// what was expected.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace pith {

enum class ErrorKind {
  kUsage,        // the caller asked for something that makes no sense
  kCorrupt,      // an input breaks the rules of its format
  kUnsupported,  // a valid input that pith cannot handle
  kIo,           // the operating system refused
  kNoSpace,      // the disk is full
  kNumeric,      // not finite, singular, or a result that failed its check
  kMemory,       // does not fit into memory, of the machine or of a device
  kBusy,         // another process is at work there: try again later
  kUnavailable,  // a device or driver that this machine does not have
  kDevice,       // a device that is there failed: of CUDA, whatever is not a lack of memory
  kCancelled,    // interrupted by the user
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

// "corrupt", "usage", ...: stable, for logs and JSON.
const char* kind_name(ErrorKind kind);

// Exit code of the program: 2 usage, 3 bad input, 4 I/O or disk full, 5 numeric, 6 out of memory,
// 7 busy, 8 unavailable, 9 device, 130 interrupted (129, 143 after SIGHUP, SIGTERM). The program
// itself has two more: 1 for a bug, 141 where nobody reads its output.
int exit_code(ErrorKind kind);

template <class... Args>
[[noreturn]] void fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(kind, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace pith
