// A crash just after the work folder was made left an empty journal beside `data`, and that blocked
// the output, even with --restart. Strangers' entries made the folder stay without a word.

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "core/bytes.h"
#include "core/error.h"
#include "runtime/compress/journal.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

// Ends the process in place of the n-th call that changes something, or in the midst of a write.
class CrashingSyscalls final : public Syscalls {
 public:
  CrashingSyscalls(int n, bool torn) : left_(n), torn_(torn) {}

  int open(const char* path, int flags, unsigned mode) override {
    if ((flags & O_CREAT) != 0) count();
    return Syscalls::open(path, flags, mode);
  }
  ssize_t pwrite(int fd, const void* buffer, size_t n, off_t offset) override {
    if (left_ == 1 && torn_) Syscalls::pwrite(fd, buffer, n / 2, offset);
    count();
    return Syscalls::pwrite(fd, buffer, n, offset);
  }
  int ftruncate(int fd, off_t length) override {
    count();
    return Syscalls::ftruncate(fd, length);
  }
  int unlink(const char* path) override {
    count();
    return Syscalls::unlink(path);
  }
  int mkdir(const char* path, unsigned mode) override {
    count();
    return Syscalls::mkdir(path, mode);
  }
  int rmdir(const char* path) override {
    count();
    return Syscalls::rmdir(path);
  }
  int fdatasync(int) override { return 0; }
  int fsync(int) override { return 0; }

 private:
  void count() {
    if (--left_ == 0) ::_exit(1);
  }
  int left_;
  const bool torn_;
};

class WorkFolderCrash : public testing::Test {
 protected:
  std::string output() const { return folder_.file("out.pith"); }
  std::string work(const std::string& file = "") const {
    return output() + ".work" + (file.empty() ? "" : "/" + file);
  }
  void expect_usable(bool restart, const std::string& what) {
    try {
      {
        WorkFolder folder(output(), restart);
        folder.open_log("text", {{"seed", "7"}}).append("x");
        Journal(folder, {{"method", "rtn"}}).data().write(0, as_bytes("planes"));
        EXPECT_EQ(folder.remove(), "") << what;
      }
      EXPECT_FALSE(file_exists(work())) << what;
    } catch (const Error& e) {
      ADD_FAILURE() << what << ": " << e.what();
    }
    std::filesystem::remove_all(work());
  }

  test::UnsyncedSyscalls unsynced_;
  ScopedSyscalls scope_{unsynced_};
  test::TemporaryFolder folder_;
};

TEST_F(WorkFolderCrash, between_any_two_steps_leaves_a_folder_that_the_next_run_takes) {
  for (const bool torn : {false, true}) {
    for (const bool restart : {false, true}) {
      for (int n = 1;; ++n) {
        ASSERT_LT(n, 100);
        const pid_t child = ::fork();
        if (child == 0) {
          CrashingSyscalls crash(n, torn);
          const ScopedSyscalls scope(crash);
          WorkFolder folder(output());
          folder.open_log("text", {{"seed", "7"}}).append("a piece");
          folder.open_log("costs", {{"seed", "7"}}).append("a group");
          Journal(folder, {{"method", "rtn"}}).data().write(4096, as_bytes("planes"));
          folder.remove();
          ::_exit(0);
        }
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        const bool ended = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        if (ended) break;
        // What was written with these fingerprints is no obstacle: the text is the same.
        expect_usable(restart, fmt::format("step {}{}{}", n, torn ? ", torn" : "",
                                           restart ? ", --restart" : ""));
      }
    }
  }
}

TEST_F(WorkFolderCrash, states_that_a_loss_of_power_leaves_are_taken) {
  const std::string zeros(4096, '\0'), log = "PITHLOG1", planes = zeros + "planes";
  enum Takes { kBoth, kRestart, kNeither };
  const struct {
    const char* what;
    std::vector<std::pair<const char*, std::string>> files;
    Takes takes;
  } cases[] = {
      {"nothing", {}, kBoth},
      {"an empty journal", {{"journal", ""}}, kBoth},
      {"an empty journal and data", {{"journal", ""}, {"data", planes}}, kBoth},
      {"an empty journal and empty data", {{"journal", ""}, {"data", ""}}, kBoth},
      {"an empty journal and text", {{"journal", ""}, {"text", log}}, kBoth},
      {"a torn magic and data", {{"journal", "PITH"}, {"data", planes}}, kBoth},
      {"a torn record and data", {{"journal", log + "abc"}, {"data", planes}}, kBoth},
      {"a journal of zeros and data", {{"journal", zeros}, {"data", planes}}, kBoth},
      {"a journal of zeros", {{"journal", zeros}}, kBoth},
      {"a finished file", {{"journal", ""}, {"data", "\x89PITH\r\n\x1a header"}}, kBoth},
      {"a damaged journal and data", {{"journal", "QITHLOG1..."}, {"data", planes}}, kRestart},
      {"data alone", {{"data", planes}}, kRestart},
      {"text and costs alone", {{"text", log}, {"costs", log}}, kRestart},
      {"empty data alone", {{"data", ""}}, kBoth},
      {"a user's data", {{"journal", ""}, {"data", "mine"}}, kNeither},
      {"a user's text", {{"journal", ""}, {"text", "Once upon a time"}}, kNeither},
      {"a user's journal", {{"journal", "Dear diary"}}, kNeither},
      {"a user's file", {{"journal", ""}, {"notes", "mine"}}, kNeither},
      {"a user's file beside data", {{"data", planes}, {"notes", "mine"}}, kNeither},
  };
  for (const auto& c : cases) {
    for (const bool restart : {false, true}) {
      std::filesystem::create_directory(work());
      for (const auto& [name, bytes] : c.files) write_file(work(name), as_bytes(bytes));
      if (c.takes == kBoth || (restart && c.takes == kRestart)) {
        expect_usable(restart, c.what);
        continue;
      }
      try {
        WorkFolder folder(output(), restart);
        ADD_FAILURE() << c.what << (restart ? ", --restart" : "");
      } catch (const Error& e) {
        EXPECT_EQ(e.kind(), ErrorKind::kUsage) << e.what();
        const bool hints = std::string(e.what()).find("--restart") != std::string::npos;
        EXPECT_EQ(hints, c.takes == kRestart) << c.what << ": " << e.what();
      }
      for (const auto& [name, bytes] : c.files)
        EXPECT_EQ(read_text_file(work(name), 1 << 20), bytes) << c.what << ": " << name;
      std::filesystem::remove_all(work());
    }
  }
}

TEST_F(WorkFolderCrash, keeps_the_text_when_the_journal_is_lost) {
  {
    WorkFolder folder(output());
    folder.open_log("text", {{"seed", "7"}}).append("a piece");
  }
  write_file(work("journal"), {});
  WorkFolder folder(output());
  EXPECT_EQ(folder.open_log("text", {{"seed", "7"}}).records(),
            std::vector<std::string>{"a piece"});
  EXPECT_EQ(WorkFolder::left_value(output(), "seed"), "7");
  EXPECT_EQ(WorkFolder::left_value(folder_.file("other"), "seed"), "");
}

TEST_F(WorkFolderCrash, what_is_not_piths_stays_and_is_named) {
  WorkFolder folder(output());
  write_file(work("notes\n.txt"), as_bytes("mine"));
  std::filesystem::create_directory(work("sub"));
  const std::string said = folder.remove();
  EXPECT_NE(said.find("notes\\x0a.txt"), std::string::npos) << said;
  EXPECT_NE(said.find("\"sub\""), std::string::npos) << said;
  EXPECT_NE(said.find("out.pith.work was not removed"), std::string::npos) << said;
  EXPECT_EQ(read_text_file(work("notes\n.txt"), 100), "mine");
  EXPECT_FALSE(file_exists(work("journal")));
}

}  // namespace
}  // namespace pith
