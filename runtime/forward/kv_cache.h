// The keys and values of sequences, one pair of planes an attention, in pages.
#pragma once

#include <cstdint>

#include "runtime/forward/kv_pages.h"

namespace pith {

class KvCache;

// Keys and values of one attention sublayer.
struct KvLayer {
  KvCache* cache = nullptr;
  int index = 0;  // in that cache
};

class KvCache {
 public:
  KvCache(int slots, int64_t length, int64_t pages = 0) : own_(slots, length, pages) {}
  virtual ~KvCache() = default;
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  int slots() const { return pages_->slots(); }
  int64_t length() const { return pages_->length(); }  // tokens of a sequence, at most
  const KvPages& pages() const { return *pages_; }
  virtual uint64_t bytes() const = 0;
  // Some numbers at every position, as if all had been run: for benchmarks at a depth.
  virtual void fill() = 0;
  // Attention `index`, counted over the model: in this cache, or in the part of it that has it.
  virtual KvLayer layer(int index) { return {this, index}; }

  // As those of KvPages, with the bytes.
  [[nodiscard]] bool reserve(int slot, int64_t tokens) {
    return own_.reserve(slot, tokens, [&](int32_t from, int32_t to) { copy_page(from, to); });
  }
  void truncate(int slot, int64_t tokens) { own_.truncate(slot, tokens); }
  void fork(int from, int to, int64_t tokens) { own_.fork(from, to, tokens); }

  // For parts of a cache: the tables are those of `whole`, which outlives it.
  void follow(const KvCache& whole) { pages_ = whole.pages_; }
  virtual void copy_page(int32_t from, int32_t to) = 0;

 private:
  KvPages own_;
  const KvPages* pages_ = &own_;
};

}  // namespace pith
