// What one rendering may use, and where it stands: every evaluation, every element visited and
// every 64 bytes of text cost a step, so time and memory are bounded together (about 150 MiB in the
// worst case, for 64 MiB of text with its origins). Errors name the line. One meter per rendering;
// not shared between threads.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "core/error.h"

namespace pith::jinja {

inline constexpr uint64_t kMaxSteps = 1'000'000;
inline constexpr uint64_t kMaxText = 1 << 20;    // bytes of one string
inline constexpr uint64_t kMaxOutput = 4 << 20;  // bytes of the whole result
inline constexpr uint64_t kMaxSource =
    256 << 10;  // bytes of the template; the longest real ones have 20 KiB
inline constexpr int64_t kMaxRange = 100'000;
inline constexpr int kMaxNesting = 64;  // of brackets and blocks, of macro calls, of lists in lists
inline constexpr int kMaxTree =
    256;  // height of an expression: a + b + c has height 3 without any nesting
inline constexpr int kMaxFrames = 1024;  // evaluations under way at one time, over all macro calls

class Meter {
 public:
  int line = 1;

  void step(uint64_t n = 1) {
    if (n > steps_left_) exhausted();
    steps_left_ -= n;
  }
  uint64_t steps_taken() const { return kMaxSteps - steps_left_; }
  // Before `bytes` of text are looked through.
  void walk(uint64_t bytes) { step(1 + bytes / 64); }
  // Before a string of `bytes` is made.
  void make(uint64_t bytes) {
    if (bytes > kMaxText) corrupt("a string of more than {} bytes", kMaxText);
    step(2 + bytes / 64);
  }

  template <class... Args>
  [[noreturn]] void corrupt(fmt::format_string<Args...> format, Args&&... args) const {
    raise(ErrorKind::kCorrupt, fmt::format(format, std::forward<Args>(args)...));
  }
  template <class... Args>
  [[noreturn]] void unsupported(fmt::format_string<Args...> format, Args&&... args) const {
    raise(ErrorKind::kUnsupported, fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  // Names and strings of a template may hold anything: control characters are escaped here, for
  // every message.
  [[noreturn]] void raise(ErrorKind kind, const std::string& message) const {
    throw Error(kind, fmt::format("chat template, line {}: {}", line, without_controls(message)));
  }
  [[noreturn]] void exhausted() const { corrupt("needs more than {} steps", kMaxSteps); }

  static std::string without_controls(const std::string& message);

  uint64_t steps_left_ = kMaxSteps;
};

}  // namespace pith::jinja
