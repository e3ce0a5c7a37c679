// Where long work reports how far it is. The library only calls it; tools draw it.
#pragma once

#include <cstdint>
#include <string>

namespace pith {

class Progress {
 public:
  virtual ~Progress() = default;
  virtual void begin(const std::string& what, int64_t total) = 0;
  // After begin: so much was done by an earlier run.
  virtual void resume(int64_t done) { advance(done, ""); }
  virtual void advance(int64_t done, const std::string& detail) = 0;  // done: so far, not a step
  virtual void end() = 0;
  virtual void note(const std::string& line) = 0;  // worth telling the user: a fallback, a warning
};

Progress& no_progress();

}  // namespace pith
