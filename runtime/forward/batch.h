// The tokens of a pass, and the KV cache that they attend to.
#pragma once

#include <cstdint>
#include <span>

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

class KvCache;

// Keys and values of one attention sublayer.
struct KvLayer {
  KvCache* cache = nullptr;
  int index = 0;  // in that cache
};

// Keys and values of `slots` sequences of up to `length` tokens, one pair a layer.
class KvCache {
 public:
  virtual ~KvCache() = default;
  virtual int slots() const = 0;
  virtual int64_t length() const = 0;
  virtual uint64_t bytes() const = 0;
  // Some numbers at every position, as if all had been run: for benchmarks at a depth.
  virtual void fill() = 0;
  // Attention `index`, counted over the model: in this cache, or in the part of it that has it.
  virtual KvLayer layer(int index) { return {this, index}; }
};

// Error(kUsage) where a token of the batch has no place in the cache.
void check_fits(const Batch& batch, const KvCache& cache);

}  // namespace pith
