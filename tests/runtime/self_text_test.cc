#include "runtime/compress/self_text.h"

#include <gtest/gtest.h>

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
  const auto one = write_windows(*cpu, model, 9, 20, 7);
  set_threads(3);
  EXPECT_EQ(write_windows(*cpu, model, 9, 20, 7), one);
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
  EXPECT_NE(write_windows(*cpu, model, 9, 20, 8), one);
  EXPECT_PITH_ERROR(write_windows(*cpu, model, 1, 65, 1), ErrorKind::kUsage, "65 tokens");
}

}  // namespace
}  // namespace pith
