#include "core/cancel.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "core/progress.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

TEST(CancelToken, the_first_reason_stays_until_it_is_cleared) {
  CancelToken token;
  EXPECT_FALSE(token.cancelled());
  EXPECT_NO_THROW(token.check());
  EXPECT_EQ(token.cancel(7), 0);
  EXPECT_EQ(token.cancel(8), 7);
  EXPECT_EQ(token.reason(), 7);
  EXPECT_PITH_ERROR(token.check(), ErrorKind::kCancelled, "interrupted");
  token.clear();
  EXPECT_FALSE(token.cancelled());
  EXPECT_EQ(token.cancel(), 0);
}

TEST(CancelToken, one_that_is_cancelled_says_nothing_of_others) {
  CancelToken token, other;
  token.cancel();
  EXPECT_FALSE(other.cancelled());
  EXPECT_FALSE(CancelToken::never().cancelled());
  EXPECT_NO_THROW(no_progress().check());
  EXPECT_PITH_ERROR(SilentProgress(token).check(), ErrorKind::kCancelled, "");
}

class WaitForInput : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(::pipe(pipe_), 0); }
  void TearDown() override {
    for (const int fd : pipe_) ::close(fd);
  }
  CancelToken token_;
  int pipe_[2] = {-1, -1};
};

TEST_F(WaitForInput, is_ended_by_a_cancellation_before_it) {
  token_.cancel();
  EXPECT_FALSE(token_.wait_for_input(pipe_[0]));
  token_.clear();
  EXPECT_EQ(::write(pipe_[1], "x", 1), 1);
  EXPECT_TRUE(token_.wait_for_input(pipe_[0]));
  EXPECT_TRUE(CancelToken::never().wait_for_input(pipe_[0]));
}

TEST_F(WaitForInput, is_ended_by_another_thread) {
  for (int i = 0; i < 50; ++i) {
    std::thread other([&] { token_.cancel(); });  // before, in or after the first poll
    EXPECT_FALSE(token_.wait_for_input(pipe_[0]));
    other.join();
    token_.clear();
  }
}

TEST_F(WaitForInput, is_ended_by_the_end_of_the_input) {
  ::close(pipe_[1]);
  pipe_[1] = -1;
  EXPECT_TRUE(token_.wait_for_input(pipe_[0]));
}

}  // namespace
}  // namespace pith
