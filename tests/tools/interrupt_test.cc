// In child processes, but for the wait: only it takes a request to stop back.

#include "tools/interrupt.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>
#include <vector>

#include "core/error.h"

namespace pith::tools {
namespace {

class InterruptDeathTest : public testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

// Exits with 7 where one signal asks and does not kill.
void ask_once(int signal) {
  install_interrupt_handler();
  interrupt().check();
  if (interrupt().cancelled()) std::_Exit(1);
  ::raise(signal);
  if (interrupt().reason() != signal) std::_Exit(2);
  try {
    interrupt().check();
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

// The signal goes to a thread that does not wait.
TEST(Interrupt, a_signal_to_another_thread_ends_a_wait) {
  std::vector<sighandler_t> before;
  for (const int s : {SIGINT, SIGTERM, SIGHUP}) before.push_back(::signal(s, SIG_DFL));
  install_interrupt_handler();
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  for (int i = 0; i < 50; ++i) {
    std::thread other([] { ::raise(SIGTERM); });  // before, in or after the first poll
    EXPECT_FALSE(interrupt().wait_for_input(ends[0]));
    other.join();
    EXPECT_EQ(interrupt().reason(), SIGTERM);
    interrupt().clear();
  }
  for (size_t i = 0; const int s : {SIGINT, SIGTERM, SIGHUP}) ::signal(s, before[i++]);
  for (const int fd : ends) ::close(fd);
}

}  // namespace
}  // namespace pith::tools
