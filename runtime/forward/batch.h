// The tokens of a pass, and the KV cache that they attend to.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/forward/kv_cache.h"

namespace pith {

// Consecutive tokens of sequences in one pass: segment i has `count` tokens of sequence `slot` of
// the cache, at positions [begin, begin + count).
struct Segment {
  int slot = 0;
  int64_t begin = 0;
  int64_t count = 0;
  friend bool operator==(const Segment&, const Segment&) = default;
};
struct Batch {
  std::span<const int32_t> tokens;  // of all segments, in order
  std::span<const Segment> segments;
};

// Error(kUsage) where a token of the batch has no place in the tables of the cache, or one that
// another sequence sees.
void check_fits(const Batch& batch, const KvPages& pages);

}  // namespace pith
