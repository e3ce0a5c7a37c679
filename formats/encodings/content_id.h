// A number that no other contents of this process have: drawn when contents are made, and copied
// along with them. What was derived from contents (weights on a GPU) is found by it, never by an
// address, which other contents may have later.
#pragma once

#include <atomic>
#include <cstdint>

namespace pith {

class ContentId {
 public:
  ContentId() : value_(next()) {}
  uint64_t value() const { return value_; }
  friend bool operator==(const ContentId&, const ContentId&) = default;

 private:
  static uint64_t next() {
    static std::atomic<uint64_t> last{0};
    return last.fetch_add(1, std::memory_order_relaxed) + 1;
  }
  uint64_t value_;
};

}  // namespace pith
