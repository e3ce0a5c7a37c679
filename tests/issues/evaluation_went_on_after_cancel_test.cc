// An evaluation that was cancelled went on to the end of its window, half a minute on a large
// model; a calibration text that was cancelled early was lost, and one that went on began its
// progress at 0.

#include <gtest/gtest.h>

#include "runtime/compress/self_text.h"
#include "runtime/cpu/cpu_executor.h"
#include "runtime/eval/evaluate.h"
#include "runtime/forward/forwarding_executor.h"
#include "tests/support/tiny_runtime.h"

namespace pith {
namespace {

// Cancels when it has run so many operations, and counts on.
class CancelsAfter final : public ForwardingExecutor {
 public:
  CancelsAfter(Executor& inner, int operations, CancelToken& token)
      : ForwardingExecutor(inner), left_(operations), token_(token) {}
  void run(const Op& op) override {
    if (token_.cancelled()) ++after_;
    inner_.run(op);
    if (--left_ == 0) token_.cancel();
  }
  int after() const { return after_; }

 private:
  int left_, after_ = 0;
  CancelToken& token_;
};

TEST(CancelledEvaluation, stops_before_the_next_operation) {
  const test::TinyRuntime tiny;
  const Model model = tiny.model();
  const auto cpu = make_cpu_executor();
  const std::vector<Window> windows = {{.tokens = test::random_tokens(50, 96, 1)}};
  for (const int operations : {1, 4, 9}) {
    CancelToken token;
    SilentProgress progress(token);
    CancelsAfter executor(*cpu, operations, token);
    EXPECT_PITH_ERROR(evaluate_perplexity(executor, model, windows, progress),
                      ErrorKind::kCancelled, "");
    EXPECT_EQ(executor.after(), 0) << operations;
  }
}

// Records where a progress begins.
class Begins final : public Progress {
 public:
  using Progress::Progress;
  void begin(const std::string&, int64_t of, int64_t at) override { total = of, done = at; }
  void advance(int64_t, const std::string&) override {}
  void end() override {}
  void note(const std::string&) override {}
  int64_t total = -1, done = -1;
};

TEST(CancelledText, keeps_what_was_written_and_goes_on_from_there) {
  const test::TinyRuntime tiny;
  const Model model = tiny.model();
  const auto cpu = make_cpu_executor();
  const TextRequest request{.count = 3, .length = 20, .seed = 7, .stops = {}, .openings = {}};
  const Windows whole = write_windows(*cpu, model, request);
  CancelToken token;
  Begins progress(token);
  CancelsAfter executor(*cpu, 60, token);  // a few tokens of each window
  std::vector<TextPiece> kept;
  EXPECT_PITH_ERROR(write_windows(executor, model, request, progress, {},
                                  [&](const TextPiece& p) { kept.push_back(p); }),
                    ErrorKind::kCancelled, "");
  EXPECT_EQ(progress.done, 0);
  ASSERT_EQ(kept.size(), 1u);
  EXPECT_LT(kept[0].end, 20);
  token.clear();
  EXPECT_EQ(write_windows(*cpu, model, request, progress, kept), whole);
  EXPECT_EQ(progress.done, std::ssize(kept[0].tokens));
  EXPECT_EQ(progress.total, 60);
}

}  // namespace
}  // namespace pith
