#include "runtime/forward/kv_pages.h"

#include <algorithm>
#include <utility>

#include "core/bytes.h"
#include "core/error.h"

namespace pith {
namespace {

constexpr int64_t kTile = 16;  // tokens that a cache never parts

int64_t page_tokens_for(int64_t length) {
  return std::clamp<int64_t>(ceil_div(length, kTile) * kTile, kTile, KvPages::kMaxTokens);
}

}  // namespace

KvPages::KvPages(int slots, int64_t length, int64_t pages)
    : length_(length), page_tokens_(page_tokens_for(length)) {
  if (slots < 0 || length < 0 || pages < 0)
    fail(ErrorKind::kUsage, "a KV cache of {} x {} tokens in {} pages", slots, length, pages);
  const int64_t all = pages > 0 ? pages : slots * pages_of(length);
  if (all > INT32_MAX) fail(ErrorKind::kMemory, "a KV cache of {} pages", all);
  tables_.resize(static_cast<size_t>(slots));
  references_.resize(static_cast<size_t>(all));
  for (auto page = static_cast<int32_t>(all); page-- > 0;) free_.push_back(page);
  for (int slot = 0; pages == 0 && slot < slots; ++slot)
    (void)reserve(slot, length, [](int32_t, int32_t) {});
}

const KvPages::PageTable& KvPages::at(int slot) const {
  if (slot < 0 || slot >= slots())
    fail(ErrorKind::kUsage, "sequence {} of a KV cache of {}", slot, slots());
  return tables_[static_cast<size_t>(slot)];
}

int32_t KvPages::take() {
  const int32_t page = free_.back();
  free_.pop_back();
  references_[static_cast<size_t>(page)] = 1;
  return page;
}

void KvPages::drop(int32_t page) {
  if (--references_[static_cast<size_t>(page)] == 0) free_.push_back(page);
}

bool KvPages::owns(int slot, int64_t begin, int64_t end) const {
  const PageTable& table = at(slot);
  if (begin < 0 || end > table.tokens) return false;
  for (int64_t i = begin / page_tokens_; begin < end && i < pages_of(end); ++i) {
    if (shared(table.pages[static_cast<size_t>(i)])) return false;
  }
  return true;
}

bool KvPages::reserve(int slot, int64_t tokens, FunctionRef<void(int32_t, int32_t)> copy) {
  PageTable& table = at(slot);
  if (tokens > length_) {
    fail(ErrorKind::kUsage, "{} tokens of sequence {} do not fit a KV cache of {}", tokens, slot,
         length_);
  }
  if (tokens <= table.tokens) return true;
  const bool copies = table.tokens % page_tokens_ != 0 && shared(table.pages.back());
  const int64_t more = pages_of(tokens) - std::ssize(table.pages);
  if (more + copies > free()) return false;
  if (copies) {
    const int32_t from = std::exchange(table.pages.back(), take());
    copy(from, table.pages.back());
    drop(from);
  }
  for (int64_t i = 0; i < more; ++i) table.pages.push_back(take());
  table.tokens = tokens;
  if (copies || more > 0) ++version_;
  return true;
}

void KvPages::truncate(int slot, int64_t tokens) {
  PageTable& table = at(slot);
  if (tokens >= table.tokens) return;
  table.tokens = std::max<int64_t>(0, tokens);
  for (; std::ssize(table.pages) > pages_of(table.tokens); table.pages.pop_back())
    drop(table.pages.back());
}

void KvPages::fork(int from, int to, int64_t tokens) {
  const PageTable& source = at(from);
  if (tokens < 0 || tokens > source.tokens || from == to) {
    fail(ErrorKind::kUsage, "sequence {} cannot begin with {} tokens of sequence {}, which has {}",
         to, tokens, from, source.tokens);
  }
  truncate(to, 0);
  PageTable& table = at(to);
  table.tokens = tokens;
  table.pages.assign(source.pages.begin(), source.pages.begin() + pages_of(tokens));
  for (const int32_t page : table.pages) ++references_[static_cast<size_t>(page)];
  ++version_;
}

}  // namespace pith
