#include "core/interrupt.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <thread>

namespace pith {
namespace {

class Interrupt : public testing::Test {
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

TEST_F(Interrupt, before_a_wait_ends_it) {
  ::raise(SIGINT);
  EXPECT_FALSE(wait_for_input(pipe_[0]));
  EXPECT_EQ(interrupt_signal(), SIGINT);
  clear_interrupt();
  EXPECT_EQ(::write(pipe_[1], "x", 1), 1);
  EXPECT_TRUE(wait_for_input(pipe_[0]));  // the signal is forgotten
}

// The signal goes to a thread that does not wait.
TEST_F(Interrupt, in_another_thread_ends_a_wait) {
  for (int i = 0; i < 50; ++i) {
    std::thread other([] { ::raise(SIGTERM); });  // before, in or after the first poll
    EXPECT_FALSE(wait_for_input(pipe_[0]));
    other.join();
    clear_interrupt();
  }
}

TEST_F(Interrupt, is_not_needed_for_the_end_of_the_input) {
  ::close(pipe_[1]);
  pipe_[1] = -1;
  EXPECT_TRUE(wait_for_input(pipe_[0]));
}

}  // namespace
}  // namespace pith
