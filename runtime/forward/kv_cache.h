// The KV cache of sequences, in two parts. A KvCache owns the tables of pages (kv_pages.h) and
// hands out places: there is one for a model, however many executors run it. A KvStorage has the
// keys and values of attention layers in the memory of one executor; it reads the tables and cannot
// change them.
#pragma once

#include <cstdint>
#include <memory>

#include "core/function_ref.h"
#include "runtime/forward/kv_pages.h"
#include "runtime/forward/kv_types.h"

namespace pith {

// The size of a cache.
struct KvConfig {
  int slots = 1;                       // sequences
  int64_t length = 0;                  // tokens of a sequence, at most
  KvTypes types = NumberFormat::kF16;  // of keys and values
  int64_t pages = 0;                   // in all; 0: every slot has all of its own from the start
};

class KvStorage;

// Keys and values of one attention sublayer.
struct KvLayer {
  KvStorage* storage = nullptr;
  int index = 0;  // in that storage
};

class KvStorage {
 public:
  // For a whole cache or some of its layers; `pages` are the cache's, and outlive this.
  explicit KvStorage(const KvPages& pages) : pages_(pages) {}
  virtual ~KvStorage() = default;
  KvStorage(const KvStorage&) = delete;
  KvStorage& operator=(const KvStorage&) = delete;

  const KvPages& pages() const { return pages_; }
  virtual uint64_t bytes() const = 0;
  // Some numbers at every position, as if all had been run: for benchmarks at a depth.
  virtual void fill() = 0;
  virtual void copy_page(int32_t from, int32_t to) = 0;
  // Attention `index`, counted over the layers that it has: here, or in the part that has it.
  virtual KvLayer layer(int index) { return {this, index}; }

 private:
  const KvPages& pages_;
};

class KvCache {
 public:
  using MakeStorage = FunctionRef<std::unique_ptr<KvStorage>(const KvPages&)>;
  KvCache(const KvConfig& config, MakeStorage make)
      : pages_(config.slots, config.length, config.pages), storage_(make(pages_)) {}
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  int slots() const { return pages_.slots(); }
  int64_t length() const { return pages_.length(); }  // tokens of a sequence, at most
  const KvPages& pages() const { return pages_; }
  KvStorage& storage() { return *storage_; }
  uint64_t bytes() const { return storage_->bytes(); }
  void fill() { storage_->fill(); }
  KvLayer layer(int index) { return storage_->layer(index); }  // counted over the model

  // As those of KvPages, with the bytes.
  [[nodiscard]] bool reserve(int slot, int64_t tokens) {
    return pages_.reserve(slot, tokens,
                          [&](int32_t from, int32_t to) { storage_->copy_page(from, to); });
  }
  void truncate(int slot, int64_t tokens) { pages_.truncate(slot, tokens); }
  void fork(int from, int to, int64_t tokens) { pages_.fork(from, to, tokens); }

 private:
  KvPages pages_;
  std::unique_ptr<KvStorage> storage_;
};

}  // namespace pith
