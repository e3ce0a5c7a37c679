#include "runtime/forward/kv_pages.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "core/rng.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

const auto kNoCopy = [](int32_t, int32_t) { ADD_FAILURE() << "a copy"; };

TEST(KvPages, are_of_64_tokens_or_of_one_short_sequence) {
  EXPECT_EQ(KvPages(1, 1).page_tokens(), 16);
  EXPECT_EQ(KvPages(1, 17).page_tokens(), 32);
  EXPECT_EQ(KvPages(1, 4096).page_tokens(), 64);
  EXPECT_EQ(KvPages(3, 130).count(), 9);
  EXPECT_EQ(KvPages(3, 130).free(), 0);
  EXPECT_EQ(KvPages(3, 130, 5).count(), 5);
  EXPECT_EQ(KvPages(3, 130, 5).free(), 5);
  EXPECT_PITH_ERROR(KvPages(-1, 1), ErrorKind::kUsage, "KV cache of -1 x 1");
}

TEST(KvPages, of_a_whole_cache_follow_each_other) {
  const KvPages pages(3, 200);
  for (int slot = 0; slot < 3; ++slot) {
    EXPECT_EQ(pages.reserved(slot), 200);
    for (int64_t p = 0; p < 200; ++p) EXPECT_EQ(pages.row(slot, p), slot * 256 + p);
  }
}

TEST(KvPages, refuse_what_no_cache_has) {
  KvPages pages(2, 100, 2);
  EXPECT_PITH_ERROR((void)pages.reserve(2, 1, kNoCopy), ErrorKind::kUsage, "sequence 2");
  EXPECT_PITH_ERROR((void)pages.reserve(0, 101, kNoCopy), ErrorKind::kUsage, "do not fit");
  EXPECT_TRUE(pages.reserve(0, 10, kNoCopy));
  EXPECT_PITH_ERROR(pages.fork(0, 1, 11), ErrorKind::kUsage, "which has 10");
  EXPECT_PITH_ERROR(pages.fork(0, 0, 1), ErrorKind::kUsage, "cannot begin");
  EXPECT_FALSE(pages.owns(0, 0, 11));
  EXPECT_TRUE(pages.owns(0, 0, 10));
  pages.fork(0, 1, 10);
  EXPECT_FALSE(pages.owns(0, 9, 10));
}

// Random steps beside a model that keeps the tokens of each sequence, and what each place holds.
class Simulation {
 public:
  Simulation(int slots, int64_t length, int64_t count)
      : pages_(slots, length, count),
        sequences_(static_cast<size_t>(slots)),
        places_(static_cast<size_t>(count * pages_.page_tokens())) {}

  void step(Rng& rng) {
    const auto below = [&](int64_t n) {
      return static_cast<int64_t>(rng.next() % static_cast<uint64_t>(n));
    };
    const auto slot = static_cast<int>(below(pages_.slots()));
    auto& sequence = sequences_[static_cast<size_t>(slot)];
    switch (below(8)) {
      case 0:
        truncate(slot, below(std::ssize(sequence) + 2));
        break;
      case 1:
        truncate(slot, 0);
        break;
      case 2:
      case 3: {
        const auto to = static_cast<int>(below(pages_.slots()));
        if (to == slot) break;
        const int64_t tokens = below(std::ssize(sequence) + 1);
        pages_.fork(slot, to, tokens);
        sequences_[static_cast<size_t>(to)].assign(sequence.begin(), sequence.begin() + tokens);
        break;
      }
      default:
        grow(slot, std::min(pages_.length(), std::ssize(sequence) + 1 + below(90)));
    }
    check();
  }
  void finish() {
    for (int slot = 0; slot < pages_.slots(); ++slot) truncate(slot, 0);
    EXPECT_EQ(pages_.free(), pages_.count());
  }
  int refused() const { return refused_; }
  int copies() const { return copies_; }

 private:
  void truncate(int slot, int64_t tokens) {
    pages_.truncate(slot, tokens);
    auto& s = sequences_[static_cast<size_t>(slot)];
    s.resize(static_cast<size_t>(std::min(tokens, std::ssize(s))));
  }
  void grow(int slot, int64_t tokens) {
    auto& s = sequences_[static_cast<size_t>(slot)];
    const int64_t n = pages_.page_tokens(), before = std::ssize(s), free = pages_.free();
    const uint64_t version = pages_.version();
    const bool fits = pages_.reserve(slot, tokens, [&](int32_t from, int32_t to) {
      ++copies_;
      std::copy_n(places_.begin() + from * n, n, places_.begin() + to * n);
    });
    const int64_t new_pages = (tokens + n - 1) / n - (before + n - 1) / n;
    if (!fits) {
      ++refused_;
      EXPECT_LE(free, new_pages);  // one more where a shared page is copied
      EXPECT_EQ(pages_.free(), free);
      EXPECT_EQ(pages_.version(), version);
      return;
    }
    if (new_pages > 0) {
      EXPECT_NE(pages_.version(), version);
    }
    EXPECT_TRUE(pages_.owns(slot, before, tokens));
    for (int64_t p = before; p < tokens; ++p) {
      s.push_back(++next_);
      places_[static_cast<size_t>(pages_.row(slot, p))] = next_;
    }
  }
  void check() const {
    std::set<int32_t> used;
    for (int slot = 0; slot < pages_.slots(); ++slot) {
      const auto& s = sequences_[static_cast<size_t>(slot)];
      ASSERT_EQ(pages_.reserved(slot), std::ssize(s));
      for (int64_t p = 0; p < std::ssize(s); ++p) {
        ASSERT_EQ(places_[static_cast<size_t>(pages_.row(slot, p))], s[static_cast<size_t>(p)])
            << "token " << p << " of sequence " << slot;
      }
      for (const int32_t page : pages_.table(slot)) used.insert(page);
    }
    ASSERT_EQ(std::ssize(used) + pages_.free(), pages_.count());
  }

  KvPages pages_;
  std::vector<std::vector<int64_t>> sequences_;
  std::vector<int64_t> places_;
  int64_t next_ = 0;
  int refused_ = 0, copies_ = 0;
};

TEST(KvPages, hold_the_tokens_of_every_sequence_through_random_steps) {
  int refused = 0, copies = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Rng rng(seed);
    Simulation simulation(6, seed % 2 == 0 ? 300 : 40, 14);
    for (int i = 0; i < 300 && !testing::Test::HasFatalFailure(); ++i) simulation.step(rng);
    simulation.finish();
    refused += simulation.refused();
    copies += simulation.copies();
  }
  EXPECT_GT(refused, 20);
  EXPECT_GT(copies, 20);
}

}  // namespace
}  // namespace pith
