#include "core/phases.h"

#include <gtest/gtest.h>

#include <thread>

namespace pith {
namespace {

void sleep_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

TEST(Phases, inner_phases_interrupt_outer_ones_and_add_up) {
  Phases phases;
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 2; ++i) {
    const Phases::Scope outer(phases, "outer");
    sleep_ms(5);
    {
      const Phases::Scope inner(phases, "inner");
      sleep_ms(20);
    }
    sleep_ms(5);
  }
  const double all =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  sleep_ms(5);  // of no phase
  ASSERT_EQ(phases.seconds().size(), 2u);
  EXPECT_EQ(phases.seconds()[0].first, "outer");
  EXPECT_GE(phases.seconds()[0].second, 0.020);
  EXPECT_GE(phases.seconds()[1].second, 0.040);
  EXPECT_LE(phases.seconds()[0].second + phases.seconds()[1].second, all);
}

}  // namespace
}  // namespace pith
