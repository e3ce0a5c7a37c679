// In child processes, but for the waits: only they take a request to stop back.

#include "core/interrupt.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>
#include <vector>

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

class WaitForInput : public testing::Test {
 protected:
  void SetUp() override {
    for (const int s : {SIGINT, SIGTERM, SIGHUP}) before_.push_back(::signal(s, SIG_DFL));
    install_interrupt_handler();
    ASSERT_EQ(::pipe(pipe_), 0);
  }
  void TearDown() override {
    clear_interrupt();
    for (size_t i = 0; const int s : {SIGINT, SIGTERM, SIGHUP}) ::signal(s, before_[i++]);
    for (const int fd : pipe_) ::close(fd);
  }
  std::vector<sighandler_t> before_;
  int pipe_[2] = {-1, -1};
};

TEST_F(WaitForInput, is_ended_by_a_signal_before_it) {
  ::raise(SIGINT);
  EXPECT_FALSE(wait_for_input(pipe_[0]));
  EXPECT_EQ(interrupt_signal(), SIGINT);
  clear_interrupt();
  EXPECT_EQ(::write(pipe_[1], "x", 1), 1);
  EXPECT_TRUE(wait_for_input(pipe_[0]));  // the signal is forgotten
}

// The signal goes to a thread that does not wait.
TEST_F(WaitForInput, is_ended_by_a_signal_to_another_thread) {
  for (int i = 0; i < 50; ++i) {
    std::thread other([] { ::raise(SIGTERM); });  // before, in or after the first poll
    EXPECT_FALSE(wait_for_input(pipe_[0]));
    other.join();
    clear_interrupt();
  }
}

TEST_F(WaitForInput, is_ended_by_the_end_of_the_input) {
  ::close(pipe_[1]);
  pipe_[1] = -1;
  EXPECT_TRUE(wait_for_input(pipe_[0]));
}

}  // namespace
}  // namespace pith
