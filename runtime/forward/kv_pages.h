// Which page of a KV cache holds which tokens of which sequence (PagedAttention, Kwon et al. 2023).
//
// A slot is a sequence: a table of pages, of which page i holds the tokens from i * page_tokens()
// on. Pages are counted by reference: fork() shares them, and the next token that is written to a
// shared page gets a copy of it. Knows numbers of pages alone; where their bytes lie is said by
// KvStorage (kv_cache.h). One thread at a time.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "core/function_ref.h"

namespace pith {

class KvPages {
 public:
  // Tokens of a page: a block of keys of the CPU's attention, so that its kernels run within a
  // page, and four pages of the GPU's kernels.
  static constexpr int64_t kMaxTokens = 64;

  // Up to `slots` sequences of up to `length` tokens. `pages` 0: every slot has pages for `length`
  // tokens of its own from the start. Otherwise so many pages in all, which slots reserve.
  KvPages(int slots, int64_t length, int64_t pages = 0);

  int slots() const { return static_cast<int>(tables_.size()); }
  int64_t length() const { return length_; }
  int64_t page_tokens() const { return page_tokens_; }  // a multiple of 16
  int64_t pages_per_slot() const { return (length_ + page_tokens_ - 1) / page_tokens_; }
  int64_t count() const { return static_cast<int64_t>(references_.size()); }
  int64_t free() const { return static_cast<int64_t>(free_.size()); }
  uint64_t version() const { return version_; }  // changes with every table

  // Tokens that a slot has places for, and its pages.
  int64_t reserved(int slot) const { return at(slot).tokens; }
  std::span<const int32_t> table(int slot) const { return at(slot).pages; }
  // The place of a token: a page times page_tokens(), and the token's number in it.
  int64_t row(int slot, int64_t position) const {
    const auto& pages = tables_[static_cast<size_t>(slot)].pages;
    return pages[static_cast<size_t>(position / page_tokens_)] * page_tokens_ +
           position % page_tokens_;
  }
  // Whether no other slot sees any of the places of tokens [begin, end).
  bool owns(int slot, int64_t begin, int64_t end) const;

  // Places for tokens [reserved(slot), tokens) that no other slot sees. copy(from, to) is called
  // where the last page is shared and not full. False, and nothing is changed, where too few pages
  // are free. Error(kUsage) beyond length().
  [[nodiscard]] bool reserve(int slot, int64_t tokens,
                             FunctionRef<void(int32_t from, int32_t to)> copy);
  // Pages that hold none of the first `tokens` tokens are given back.
  void truncate(int slot, int64_t tokens);
  // `to`, which is emptied before, has the first `tokens` tokens of `from`, in the same pages.
  void fork(int from, int to, int64_t tokens);

 private:
  struct PageTable {
    int64_t tokens = 0;
    std::vector<int32_t> pages;
  };
  const PageTable& at(int slot) const;
  PageTable& at(int slot) { return const_cast<PageTable&>(std::as_const(*this).at(slot)); }
  int64_t pages_of(int64_t tokens) const { return (tokens + page_tokens_ - 1) / page_tokens_; }
  bool shared(int32_t page) const { return references_[static_cast<size_t>(page)] > 1; }
  int32_t take();
  void drop(int32_t page);

  const int64_t length_, page_tokens_;
  std::vector<int32_t> references_;  // [page]
  std::vector<int32_t> free_;        // the next to be taken last
  std::vector<PageTable> tables_;
  uint64_t version_ = 1;
};

}  // namespace pith
