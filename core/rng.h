// Counter-based random numbers: the value at (seed, stream, counter) depends on nothing else, so
// that work may be split among threads in any way. splitmix64 as the mixing function (Steele, Lea,
// Flood 2014).
#pragma once

#include <cstdint>

namespace pith {

constexpr uint64_t mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

class Rng {
 public:
  constexpr explicit Rng(uint64_t seed, uint64_t stream = 0)
      : key_(mix64(seed + 0x9e3779b97f4a7c15u) ^ mix64(stream * 0xd1342543de82ef95u + 1)) {}

  constexpr uint64_t at(uint64_t counter) const {
    return mix64(key_ + counter * 0x9e3779b97f4a7c15u);
  }
  constexpr double uniform_at(uint64_t counter) const {  // [0, 1)
    return static_cast<double>(at(counter) >> 11) * 0x1p-53;
  }
  constexpr uint64_t next() { return at(counter_++); }
  constexpr double uniform() { return uniform_at(counter_++); }

 private:
  uint64_t key_;
  uint64_t counter_ = 0;
};

}  // namespace pith
