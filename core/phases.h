// Where the time of a long run goes: seconds by phase, each counted once. A phase that begins
// inside another one interrupts it. For one thread: the one that leads.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

namespace pith {

class Phases {
 public:
  // The phase lasts as long as this lives.
  class Scope {
   public:
    Scope(Phases& phases, const char* name) : phases_(phases), outer_(phases.enter(name)) {}
    ~Scope() { phases_.switch_to(outer_); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Phases& phases_;
    size_t outer_;
  };

  // In the order in which they first began.
  const std::vector<std::pair<std::string, double>>& seconds() const { return seconds_; }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr size_t kNone = static_cast<size_t>(-1);

  size_t enter(const char* name) {
    size_t i = 0;
    while (i < seconds_.size() && seconds_[i].first != name) ++i;
    if (i == seconds_.size()) seconds_.emplace_back(name, 0.0);
    return switch_to(i);
  }
  size_t switch_to(size_t phase) {
    const auto now = Clock::now();
    if (current_ != kNone)
      seconds_[current_].second += std::chrono::duration<double>(now - since_).count();
    since_ = now;
    return std::exchange(current_, phase);
  }

  std::vector<std::pair<std::string, double>> seconds_;
  size_t current_ = kNone;
  Clock::time_point since_;
};

}  // namespace pith
