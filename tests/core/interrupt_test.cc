// In child processes: a request to stop cannot be taken back.

#include "core/interrupt.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>

#include "core/error.h"

namespace pith {
namespace {

class InterruptDeathTest : public testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

// Exits with 7 where one signal asks and does not kill.
void ask_once(int signal) {
  install_interrupt_handler();
  check_interrupt();
  if (interrupted()) std::_Exit(1);
  ::raise(signal);
  if (!interrupted()) std::_Exit(2);
  try {
    check_interrupt();
  } catch (const Error& e) {
    std::_Exit(e.kind() == ErrorKind::kCancelled ? 7 : 3);
  }
  std::_Exit(4);
}

TEST_F(InterruptDeathTest, a_signal_asks_the_work_to_stop) {
  EXPECT_EXIT(ask_once(SIGINT), testing::ExitedWithCode(7), "");
  EXPECT_EXIT(ask_once(SIGTERM), testing::ExitedWithCode(7), "");
}

TEST_F(InterruptDeathTest, a_second_signal_ends_the_program_at_once) {
  EXPECT_EXIT(
      {
        install_interrupt_handler();
        ::raise(SIGTERM);
        ::raise(SIGINT);
        std::_Exit(1);
      },
      testing::ExitedWithCode(130), "");
}

TEST(Interrupt, nothing_happens_without_a_signal) {
  EXPECT_FALSE(interrupted());
  EXPECT_NO_THROW(check_interrupt());
}

}  // namespace
}  // namespace pith
