// A calibration text that was cut off inside of windows went on from numbers that a pass over many
// tokens gave, and those differ in their last bits from the numbers of one token at a time: now and
// then another token was drawn, and the same command gave another file.

#include <gtest/gtest.h>

#include "runtime/compress/self_text.h"
#include "runtime/cpu/cpu_executor.h"
#include "tests/support/tiny_runtime.h"

namespace pith {
namespace {

TEST(InterruptedText, goes_on_from_the_same_numbers) {
  const test::TinyRuntime tiny;
  const Model model = tiny.model();
  const auto cpu = make_cpu_executor();
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    const TextRequest request{
        .count = 8, .length = 64, .seed = seed, .stops = {}, .openings = {{1}}};
    std::vector<TextPiece> pieces;
    const Windows whole = write_windows(*cpu, model, request, no_progress(), {},
                                        [&](const TextPiece& p) { pieces.push_back(p); });
    ASSERT_EQ(pieces.size(), 2u);
    pieces.pop_back();
    EXPECT_TRUE(write_windows(*cpu, model, request, no_progress(), pieces) == whole) << seed;
  }
}

}  // namespace
}  // namespace pith
