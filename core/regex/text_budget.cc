#include "core/regex/text_budget.h"

#include <time.h>

#include <algorithm>

#include "core/error.h"

namespace pith {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kStepsPerByte = 2048, kSteps = 4'000'000;
constexpr double kSecondsPerText = 2, kSecondsPerByte = 5e-6;  // honest patterns need 0.3e-6

double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

}  // namespace

TextBudget::TextBudget(std::string_view file, size_t text_bytes)
    : file_(file),
      text_bytes_(text_bytes),
      max_bytes_(4 * uint64_t{text_bytes} + 60 * std::min<uint64_t>(text_bytes, kMiB / 4) +
                 kMiB / 16),
      bytes_left_(256 * uint64_t{text_bytes} + kMiB),
      steps_left_(kStepsPerByte * uint64_t{text_bytes} + kSteps) {}

void TextBudget::charge_bytes(size_t in, size_t out, const char* component) {
  check_size(out, component);
  const uint64_t bytes = uint64_t{in} + out + 1;
  if (bytes > bytes_left_) too_long(component);
  bytes_left_ -= bytes;
}

void TextBudget::charge_steps(uint64_t steps, const std::string& pattern) {
  if (steps > steps_left_) too_slow(pattern);
  steps_left_ -= steps;
}

void TextBudget::check_time(const std::string& pattern) {
  const double now = thread_seconds();
  if (deadline_ == 0) {
    deadline_ = now + kSecondsPerText + kSecondsPerByte * static_cast<double>(text_bytes_);
  }
  if (now > deadline_) too_slow(pattern);
}

void TextBudget::too_long(const char* component) const {
  fail(ErrorKind::kCorrupt, "{}: {} makes too much of a text of {} bytes", file_, component,
       text_bytes_);
}
void TextBudget::too_slow(const std::string& pattern) const {
  fail(ErrorKind::kCorrupt, "{}: pattern {} takes too long on a text of {} bytes", file_, pattern,
       text_bytes_);
}

}  // namespace pith
