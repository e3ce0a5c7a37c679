#include "runtime/compress/self_text.h"
#include "runtime/cpu/cpu_executor.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/parallel.h"
#include "tests/support/encodings.h"
#include "tests/support/tiny_runtime.h"

namespace pith {
namespace {

TEST(SelfText, depends_on_the_seed_and_not_on_threads) {
  const test::TinyRuntime tiny;
  const Model model = tiny.model();
  const auto cpu = make_cpu_executor();
  set_threads(1);
  const auto one = write_windows(*cpu, model, 9, 20, 7, {});
  set_threads(3);
  EXPECT_EQ(write_windows(*cpu, model, 9, 20, 7, {}), one);
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
  EXPECT_NE(write_windows(*cpu, model, 9, 20, 8, {}), one);
  EXPECT_PITH_ERROR(write_windows(*cpu, model, 1, 65, 1, {}), ErrorKind::kUsage, "65 tokens");
}

TEST(SelfText, begins_again_at_every_token_that_ends_a_text) {
  const test::TinyRuntime tiny;
  const Model model = tiny.model();
  const auto cpu = make_cpu_executor();
  const auto plain = write_windows(*cpu, model, 9, 20, 7, {});
  const int32_t bos = model.spec.bos_token();
  std::vector<int32_t> stops;
  for (const auto& w : plain) {
    if (w[3] != bos) stops.push_back(w[3]);
  }
  ASSERT_GE(stops.size(), 2u);
  for (const auto& w : write_windows(*cpu, model, 9, 20, 7, stops)) {
    for (const int32_t id : w) EXPECT_EQ(std::ranges::count(stops, id), 0) << id;
  }
}

// Stopped after any piece, also in the middle of windows, and gone on with: the same text.
TEST(SelfText, that_was_interrupted_goes_on_to_the_same_text) {
  const test::TinyRuntime tiny;
  const Model model = tiny.model();
  const auto cpu = make_cpu_executor();
  const uint64_t two = text_cache_bytes(model.spec, 1, 64) * 2;  // windows at once, or a few more
  std::vector<TextPiece> pieces;
  const auto whole = write_windows(*cpu, model, 7, 64, 7, {}, no_progress(), two, {},
                                   [&](const TextPiece& p) { pieces.push_back(p); });
  ASSERT_GE(pieces.size(), 4u);
  EXPECT_EQ(write_windows(*cpu, model, 7, 64, 7, {}), whole);
  for (size_t n = 0; n <= pieces.size(); ++n) {
    std::vector<TextPiece> written, again;
    for (size_t i = 0; i < n; ++i) written.push_back(piece_from(to_bytes(pieces[i])));
    EXPECT_EQ(write_windows(*cpu, model, 7, 64, 7, {}, no_progress(), two, written,
                            [&](const TextPiece& p) { again.push_back(p); }),
              whole)
        << n;
    EXPECT_EQ(again.size(), pieces.size() - n);
  }
  // Pieces that do not fit together are not taken.
  for (auto change :
       {+[](TextPiece& p) { p.first = 1; }, +[](TextPiece& p) { p.begin = 3; },
        +[](TextPiece& p) { p.tokens[0] = 1 << 20; }, +[](TextPiece& p) { p.tokens.pop_back(); }}) {
    std::vector<TextPiece> written = pieces;
    change(written[0]);
    EXPECT_EQ(write_windows(*cpu, model, 7, 64, 7, {}, no_progress(), two, written), whole);
  }
}

}  // namespace
}  // namespace pith
