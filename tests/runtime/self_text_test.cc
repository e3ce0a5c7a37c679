#include "runtime/compress/self_text.h"
#include "runtime/cpu/cpu_executor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "core/parallel.h"
#include "tests/support/encodings.h"
#include "tests/support/tiny_runtime.h"

namespace pith {
namespace {

TextRequest plain(int64_t count, int64_t length, uint64_t seed) {
  return {.count = count, .length = length, .seed = seed, .stops = {}, .openings = {}};
}

// Where two texts differ first, to say so.
std::string difference(const Windows& a, const Windows& b) {
  for (size_t w = 0; w < std::min(a.size(), b.size()); ++w) {
    const auto at = std::ranges::mismatch(a[w], b[w]).in1 - a[w].begin();
    if (at < std::ssize(a[w])) return "window " + std::to_string(w) + ", " + std::to_string(at);
  }
  return a.size() == b.size() ? "" : "their number";
}

TEST(SelfText, depends_on_the_seed_and_not_on_threads) {
  const test::TinyRuntime tiny;
  const Model model = tiny.model();
  const auto cpu = make_cpu_executor();
  set_threads(1);
  const auto one = write_windows(*cpu, model, plain(9, 20, 7));
  set_threads(3);
  EXPECT_EQ(write_windows(*cpu, model, plain(9, 20, 7)), one);
  set_threads(0);
  ASSERT_EQ(one.size(), 9u);
  for (const auto& w : one) {
    ASSERT_EQ(w.size(), 20u);
    EXPECT_EQ(w.front(), model.spec.bos_token());
    for (const int32_t id : w) {
      EXPECT_GE(id, 0);
      EXPECT_LT(id, static_cast<int32_t>(model.spec.vocab()));
    }
  }
  EXPECT_NE(one[0], one[1]);
  EXPECT_NE(write_windows(*cpu, model, plain(9, 20, 8)), one);
  EXPECT_PITH_ERROR(write_windows(*cpu, model, plain(1, 65, 1)), ErrorKind::kUsage, "65 tokens");
}

// Where a text ends, the next opening follows at once; a token that ends one text and begins the
// next is not doubled.
TEST(SelfText, goes_from_one_document_to_the_next) {
  const test::TinyRuntime tiny;
  const Model model = tiny.model();
  const auto cpu = make_cpu_executor();
  const int32_t bos = model.spec.bos_token();
  TextRequest request = plain(9, 40, 7);
  for (int32_t id = 5; id < 96; id += 3) request.stops.push_back(id);
  for (const bool bos_stops : {false, true}) {
    if (bos_stops) request.stops.push_back(bos);
    for (const auto& openings :
         {std::vector<std::vector<int32_t>>{}, {{bos, 3, 4}, {bos, 7}, {bos, 6, 9, 10}}}) {
      request.openings = openings;
      int documents = 0;
      const auto follows = [&](const std::vector<int32_t>& w, size_t at) {
        const auto fits = [&](const std::vector<int32_t>& opening) {
          const size_t n = std::min(opening.size(), w.size() - at);
          return std::equal(opening.begin(), opening.begin() + static_cast<int64_t>(n),
                            w.begin() + static_cast<int64_t>(at));
        };
        return openings.empty() ? fits({bos}) : std::ranges::any_of(openings, fits);
      };
      for (const auto& w : write_windows(*cpu, model, request)) {
        EXPECT_TRUE(follows(w, 0));
        for (size_t i = 4; i + 1 < w.size(); ++i) {  // behind the first opening
          if (std::ranges::count(request.stops, w[i]) == 0 || w[i] == bos) continue;
          // Tokens of an opening do not end a text.
          const bool in_opening =
              w[i - 1] == bos || (i > 1 && w[i - 2] == bos) || (i > 2 && w[i - 3] == bos);
          if (!openings.empty() && in_opening) continue;
          EXPECT_TRUE(follows(w, i + 1)) << i;
          ++documents;
        }
      }
      EXPECT_GT(documents, 20);
    }
  }
}

TEST(SelfText, begins_windows_with_different_openings) {
  const test::TinyRuntime tiny;
  const Model model = tiny.model();
  const auto cpu = make_cpu_executor();
  TextRequest request = plain(8, 6, 7);
  for (int32_t i = 0; i < 8; ++i) request.openings.push_back({1, 10 + i, 20 + i});
  std::set<int32_t> seen;
  for (const auto& w : write_windows(*cpu, model, request)) {
    EXPECT_EQ(w[2], w[1] + 10);
    seen.insert(w[1]);
  }
  EXPECT_EQ(seen.size(), 8u);
  // An opening that is longer than a window is cut off.
  request.openings = {{1, 2, 3, 4, 5, 6, 7, 8}};
  EXPECT_EQ(write_windows(*cpu, model, request).front(), (std::vector<int32_t>{1, 2, 3, 4, 5, 6}));
  request.openings = {{1, 96}};
  EXPECT_PITH_ERROR(write_windows(*cpu, model, request), ErrorKind::kUsage, "token 96");
  request.openings = {{}};
  EXPECT_PITH_ERROR(write_windows(*cpu, model, request), ErrorKind::kUsage, "without a token");
}

// Stopped after any piece, also in the middle of windows, and gone on with: the same text.
TEST(SelfText, that_was_interrupted_goes_on_to_the_same_text) {
  const test::TinyRuntime tiny;
  const Model model = tiny.model();
  const auto cpu = make_cpu_executor();
  TextRequest request = plain(7, 64, 7);
  request.openings = {{1, 4, 6}, {1, 8}, {1, 5, 6, 7, 8, 9}};
  request.stops = {11, 12, 13, 14, 15, 16, 17, 18};
  request.cache_bytes = text_cache_bytes(model.spec, 1, 64) * 2;  // windows at once, or a few more
  std::vector<TextPiece> pieces;
  const auto whole = write_windows(*cpu, model, request, no_progress(), {},
                                   [&](const TextPiece& p) { pieces.push_back(p); });
  ASSERT_GE(pieces.size(), 4u);
  for (size_t n = 0; n <= pieces.size(); ++n) {
    std::vector<TextPiece> written, again;
    for (size_t i = 0; i < n; ++i) written.push_back(piece_from(to_bytes(pieces[i])));
    const Windows now = write_windows(*cpu, model, request, no_progress(), written,
                                      [&](const TextPiece& p) { again.push_back(p); });
    EXPECT_EQ(difference(now, whole), "") << n;
    EXPECT_EQ(again.size(), pieces.size() - n);
  }
  // Pieces that do not fit together are not taken.
  for (auto change :
       {+[](TextPiece& p) { p.first = 1; }, +[](TextPiece& p) { p.begin = 3; },
        +[](TextPiece& p) { p.tokens[0] = 1 << 20; }, +[](TextPiece& p) { p.tokens.pop_back(); }}) {
    std::vector<TextPiece> written = pieces;
    change(written[0]);
    EXPECT_EQ(write_windows(*cpu, model, request, no_progress(), written), whole);
  }
}

}  // namespace
}  // namespace pith
