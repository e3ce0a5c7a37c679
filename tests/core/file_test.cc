#include "core/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "core/bytes.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

using test::FaultSyscalls;
using test::TemporaryFolder;

std::string text_of(const std::string& path) { return read_text_file(path, 1 << 20); }

TEST(NewFile, appears_whole_on_commit) {
  const TemporaryFolder folder;
  {
    NewFile file(folder.file("x"), 100);
    file.append(as_bytes("hello "));
    EXPECT_FALSE(file_exists(folder.file("x")));
    file.append(as_bytes("world"));
    EXPECT_EQ(file.size(), 11u);
    file.commit();
  }
  EXPECT_EQ(text_of(folder.file("x")), "hello world");  // what was reserved beyond it is gone
  EXPECT_EQ(folder.files(), 1);
}

TEST(NewFile, leaves_nothing_when_abandoned) {
  const TemporaryFolder folder;
  {
    NewFile file(folder.file("x"), 1 << 16);
    file.append(as_bytes("hello"));
    EXPECT_EQ(folder.files(), 1);
  }
  EXPECT_EQ(folder.files(), 0);
}

TEST(NewFile, replaces_an_existing_file_without_touching_its_content) {
  const TemporaryFolder folder;
  write_file(folder.file("x"), as_bytes("old"));
  const File reader = File::open_read(folder.file("x"));
  const auto mapped = MappedFile::open(folder.file("x"));
  { NewFile(folder.file("x")).append(as_bytes("abandoned")); }
  EXPECT_EQ(text_of(folder.file("x")), "old");
  write_file(folder.file("x"), as_bytes("new"));
  EXPECT_EQ(text_of(folder.file("x")), "new");
  std::string seen(3, ' ');
  reader.read(0, std::as_writable_bytes(std::span(seen)));
  EXPECT_EQ(seen, "old");
  EXPECT_EQ(as_text(mapped->bytes()), "old");
}

TEST(NewFile, two_at_once_do_not_meet) {
  const TemporaryFolder folder;
  NewFile a(folder.file("x")), b(folder.file("x"));
  a.append(as_bytes("first"));
  b.append(as_bytes("second"));
  a.commit();
  b.commit();
  EXPECT_EQ(text_of(folder.file("x")), "second");
  EXPECT_EQ(folder.files(), 1);
}

TEST(NewFile, names_the_path_it_cannot_make) {
  const TemporaryFolder folder;
  EXPECT_PITH_ERROR(NewFile(folder.path()), ErrorKind::kIo, "is a folder");
  EXPECT_PITH_ERROR(NewFile(folder.file("no/such/folder")), ErrorKind::kIo, "no/such");
  std::filesystem::permissions(
      folder.path(), std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
  if (::geteuid() == 0) GTEST_SKIP() << "root may write in a read-only folder";
  EXPECT_PITH_ERROR(NewFile(folder.file("x")), ErrorKind::kIo, "Permission denied");
}

TEST(NewFile, is_written_behind_links_which_stay) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder.file("elsewhere"));
  write_file(folder.file("elsewhere/x"), as_bytes("old"));
  std::filesystem::create_symlink("elsewhere/x", folder.file("link"));
  std::filesystem::create_symlink(folder.file("link"), folder.file("second"));
  std::filesystem::create_symlink("elsewhere/new", folder.file("dangling"));
  write_file(folder.file("second"), as_bytes("new"));
  write_file(folder.file("dangling"), as_bytes("made"));
  EXPECT_EQ(text_of(folder.file("elsewhere/x")), "new");
  EXPECT_EQ(text_of(folder.file("elsewhere/new")), "made");
  EXPECT_TRUE(std::filesystem::is_symlink(folder.file("link")));
  EXPECT_TRUE(std::filesystem::is_symlink(folder.file("second")));
  EXPECT_TRUE(std::filesystem::is_symlink(folder.file("dangling")));
  std::filesystem::create_symlink(folder.file("b"), folder.file("a"));
  std::filesystem::create_symlink(folder.file("a"), folder.file("b"));
  EXPECT_PITH_ERROR(write_file(folder.file("a"), as_bytes("x")), ErrorKind::kIo,
                    "a: cannot create");
  std::filesystem::create_symlink(folder.file("elsewhere"), folder.file("to_folder"));
  EXPECT_PITH_ERROR(write_file(folder.file("to_folder"), {}), ErrorKind::kIo, "is a folder");
}

TEST(NewFile, keeps_the_permissions_of_the_file_it_replaces) {
  const TemporaryFolder folder;
  write_file(folder.file("x"), as_bytes("secret"));
  ASSERT_EQ(::chmod(folder.file("x").c_str(), 0600), 0);
  write_file(folder.file("x"), as_bytes("new"));
  struct stat s;
  ASSERT_EQ(::stat(folder.file("x").c_str(), &s), 0);
  EXPECT_EQ(s.st_mode & 0777, 0600u);
}

TEST(NewFile, removes_what_a_dead_process_left_and_nothing_else) {
  const TemporaryFolder folder;
  const pid_t dead = ::fork();
  if (dead == 0) ::_exit(0);
  ::waitpid(dead, nullptr, 0);
  const std::string gone = folder.file(fmt::format(".x.tmp.{}.0", dead));
  const std::string other = folder.file(fmt::format(".y.tmp.{}.0", dead));
  const std::string odd = folder.file(fmt::format(".x.tmp.{}.a", dead));
  const std::string link = folder.file(fmt::format(".x.tmp.{}.1", dead));
  for (const auto& f : {gone, other, odd}) write_file(f, as_bytes("1"));
  std::filesystem::create_symlink(other, link);
  write_file(folder.file("x"), as_bytes("new"));
  EXPECT_FALSE(file_exists(gone));
  EXPECT_TRUE(file_exists(other));
  EXPECT_TRUE(file_exists(odd));
  EXPECT_TRUE(std::filesystem::is_symlink(link));
}

TEST(WriteFile, writes_into_what_is_no_file_and_never_replaces_it) {
  const TemporaryFolder folder;
  const std::string pipe = folder.file("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const int reader = ::open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  EXPECT_NO_THROW(check_writable(pipe));
  write_file(pipe, as_bytes("hello"));
  char got[16];
  EXPECT_EQ(::read(reader, got, sizeof(got)), 5);
  ::close(reader);
  struct stat s;
  ASSERT_EQ(::lstat(pipe.c_str(), &s), 0);
  EXPECT_TRUE(S_ISFIFO(s.st_mode));
  write_file("/dev/null", as_bytes("x"));
  ASSERT_EQ(::stat("/dev/null", &s), 0);
  EXPECT_TRUE(S_ISCHR(s.st_mode));
  EXPECT_PITH_ERROR(write_file("/dev/full", as_bytes("x")), ErrorKind::kNoSpace, "/dev/full");
  EXPECT_PITH_ERROR(NewFile("/dev/null"), ErrorKind::kIo, "not a regular file");
}

// A descriptor from a shell: reached through a link, and appended to.
TEST(WriteFile, appends_to_a_descriptor_of_this_process) {
  const TemporaryFolder folder;
  const int fd = ::open(folder.file("log").c_str(), O_RDWR | O_CREAT, 0600);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(::write(fd, "before ", 7), 7);
  std::filesystem::create_symlink(fmt::format("/proc/self/fd/{}", fd), folder.file("link"));
  std::filesystem::create_symlink("link", folder.file("second"));
  EXPECT_NO_THROW(check_writable(folder.file("second")));
  write_file(folder.file("second"), as_bytes("and "));
  write_file(fmt::format("/dev/fd/{}", fd), as_bytes("after"));
  EXPECT_EQ(text_of(folder.file("log")), "before and after");
  EXPECT_TRUE(std::filesystem::is_symlink(folder.file("link")));
  ::close(fd);
  const int read_only = ::open(folder.file("log").c_str(), O_RDONLY);
  EXPECT_PITH_ERROR(check_writable(fmt::format("/dev/fd/{}", read_only)), ErrorKind::kIo, "write");
  ::close(read_only);
}

TEST(CheckWritable, says_at_once_what_would_fail_later_and_leaves_nothing) {
  const TemporaryFolder folder;
  write_file(folder.file("x"), as_bytes("old"));
  EXPECT_NO_THROW(check_writable(""));
  EXPECT_NO_THROW(check_writable("-"));
  EXPECT_NO_THROW(check_writable(folder.file("x")));
  EXPECT_NO_THROW(check_writable(folder.file("y")));
  EXPECT_PITH_ERROR(check_writable(folder.file("no/x")), ErrorKind::kIo, "no/x: cannot create");
  EXPECT_PITH_ERROR(check_writable(folder.file("x/y")), ErrorKind::kIo, "x/y: cannot create");
  EXPECT_PITH_ERROR(check_writable(folder.path()), ErrorKind::kIo, "is a folder");
  EXPECT_EQ(text_of(folder.file("x")), "old");
  EXPECT_EQ(folder.files(), 1);
}

TEST(File, its_own_is_neither_a_link_nor_known_by_other_names) {
  const TemporaryFolder folder;
  write_file(folder.file("victim"), as_bytes("precious"));
  std::filesystem::create_symlink(folder.file("victim"), folder.file("link"));
  std::filesystem::create_hard_link(folder.file("victim"), folder.file("hard"));
  ASSERT_EQ(::mkfifo(folder.file("pipe").c_str(), 0600), 0);
  for (const char* name : {"link", "hard", "pipe"})
    EXPECT_PITH_ERROR(File::open_own(folder.file(name)), ErrorKind::kUsage, name);
  EXPECT_EQ(text_of(folder.file("victim")), "precious");
  EXPECT_NO_THROW(File::open_own(folder.file("new")));
}

TEST(File, that_grows_beyond_the_limit_of_the_process_is_an_error) {
  const TemporaryFolder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    install_mapping_guard();
    const rlimit limit{4, 4};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      write_file(folder.file("x"), as_bytes("more than four"));
    } catch (const Error& e) {
      ::_exit(e.kind() == ErrorKind::kNoSpace ? 0 : 2);
    }
    ::_exit(1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_EQ(folder.files(), 0);
}

TEST(File, a_full_device_is_no_space) {
  if (!file_exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  File full = File::open_read_write("/dev/full");
  EXPECT_PITH_ERROR(full.write(0, as_bytes("x")), ErrorKind::kNoSpace, "/dev/full: cannot write");
}

TEST(File, reading_beyond_the_end_says_where_it_ends) {
  const TemporaryFolder folder;
  write_file(folder.file("x"), as_bytes("12345"));
  const File file = File::open_read(folder.file("x"));
  std::byte b[4];
  EXPECT_PITH_ERROR(file.read(3, b), ErrorKind::kIo, "ends at 5, 2 more bytes");
  EXPECT_NO_THROW(file.read(1, b));
  EXPECT_NO_THROW(file.read(9, {}));
}

TEST(File, only_regular_files_open_for_reading) {
  const TemporaryFolder folder;
  EXPECT_PITH_ERROR(File::open_read(folder.path()), ErrorKind::kIo, "not a regular file");
  EXPECT_PITH_ERROR(File::open_read("/dev/null"), ErrorKind::kIo, "not a regular file");
  EXPECT_PITH_ERROR(File::open_read(folder.file("x")), ErrorKind::kIo, "cannot open");
}

// Opening a pipe would wait for a writer.
TEST(File, pipes_are_refused_without_being_opened) {
  const TemporaryFolder folder;
  ASSERT_EQ(::mkfifo(folder.file("pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink(folder.file("pipe"), folder.file("link"));
  for (const char* name : {"pipe", "link"}) {
    EXPECT_PITH_ERROR(File::open_read(folder.file(name)), ErrorKind::kIo,
                      "is a pipe, not a regular file");
  }
  EXPECT_PITH_ERROR(File::open_read("/dev/zero"), ErrorKind::kIo, "is a device");
}

TEST(MappedFile, any_number_of_them_is_guarded) {
  const TemporaryFolder folder;
  std::vector<std::shared_ptr<const MappedFile>> mapped;
  for (int i = 0; i < 200; ++i) {
    const std::string path = folder.file(std::to_string(i));
    write_file(path, as_bytes("12345"));
    mapped.push_back(MappedFile::open(path));
  }
  const auto touch_what_was_cut = [&] {
    install_mapping_guard();
    std::filesystem::resize_file(mapped[190]->path(), 0);
    const volatile auto* first = mapped[190]->bytes().data();
    std::exit(static_cast<int>(*first));
  };
  EXPECT_EXIT(touch_what_was_cut(), testing::ExitedWithCode(4), "model file changed.*/190");
}

TEST(File, is_the_same_by_whatever_path) {
  const TemporaryFolder folder;
  write_file(folder.file("x"), as_bytes("1"));
  write_file(folder.file("y"), as_bytes("1"));
  EXPECT_TRUE(same_file(folder.file("x"), folder.path() + "/./x"));
  EXPECT_FALSE(same_file(folder.file("x"), folder.file("y")));
  EXPECT_FALSE(same_file(folder.file("x"), folder.file("z")));
}

TEST(File, create_makes_new_files_only) {
  const TemporaryFolder folder;
  File::create(folder.file("x")).write(0, as_bytes("1"));
  EXPECT_PITH_ERROR(File::create(folder.file("x")), ErrorKind::kIo, "File exists");
  std::filesystem::create_symlink(folder.file("elsewhere"), folder.file("link"));
  EXPECT_PITH_ERROR(File::create(folder.file("link")), ErrorKind::kIo, "File exists");
  EXPECT_EQ(text_of(folder.file("x")), "1");
}

TEST(File, locks_exclude_each_other_until_closed) {
  const TemporaryFolder folder;
  File a = File::open_read_write(folder.file("x")), b = File::open_read_write(folder.file("x"));
  EXPECT_TRUE(a.try_lock());
  EXPECT_FALSE(b.try_lock());
  a.close();
  EXPECT_TRUE(b.try_lock());
}

TEST(ReadFile, refuses_more_than_was_expected) {
  const TemporaryFolder folder;
  write_file(folder.file("x"), as_bytes("12345"));
  EXPECT_EQ(read_file(folder.file("x"), 5).size(), 5u);
  EXPECT_PITH_ERROR(read_file(folder.file("x"), 4), ErrorKind::kCorrupt, "at most 4");
}

TEST(MappedFile, of_an_empty_file_is_empty) {
  const TemporaryFolder folder;
  write_file(folder.file("x"), {});
  EXPECT_TRUE(MappedFile::open(folder.file("x"))->bytes().empty());
}

// Writes "new content" over "old", in pieces, with the n-th call failing, for all n.
class NewFileFaults : public testing::TestWithParam<int> {};
TEST_P(NewFileFaults, old_or_whole_and_no_temporary_left) {
  const int error = GetParam();
  int faults_seen = 0;
  for (int n = 1;; ++n) {
    const TemporaryFolder folder;
    write_file(folder.file("x"), as_bytes("old"));
    FaultSyscalls faults(n, error);
    bool failed = false;
    {
      const ScopedSyscalls scope(faults);
      try {
        NewFile file(folder.file("x"), 64);
        file.append(as_bytes("new "));
        file.append(as_bytes("content"));
        file.commit();
      } catch (const Error& e) {
        failed = true;
        EXPECT_EQ(e.kind(), error == ENOSPC ? ErrorKind::kNoSpace : ErrorKind::kIo) << e.what();
        EXPECT_NE(std::string(e.what()).find(folder.path()), std::string::npos) << e.what();
      }
    }
    const std::string content = text_of(folder.file("x"));
    if (!failed) {
      EXPECT_EQ(content, "new content") << faults.call();
    }
    EXPECT_TRUE(content == "old" || content == "new content")
        << content << " after " << faults.call();
    EXPECT_EQ(folder.files(), 1) << faults.call();
    if (!faults.fired()) break;
    ++faults_seen;
    const std::string call = faults.call();
    const bool harmless = error == FaultSyscalls::kShortWrite ||
                          (error == EINTR && (call == "open" || call == "pwrite" ||
                                              call == "fallocate" || call == "close"));
    // The folder's descriptor is only read: nothing is lost when closing it fails.
    const bool folder_closed = call == "close" && content == "new content";
    if (harmless) {
      EXPECT_FALSE(failed) << call;
    } else if (!folder_closed) {
      EXPECT_TRUE(failed) << call;
    }
  }
  EXPECT_GE(faults_seen, error == FaultSyscalls::kShortWrite ? 2 : 9);
}
INSTANTIATE_TEST_SUITE_P(Errors, NewFileFaults,
                         testing::Values(EIO, ENOSPC, EINTR, FaultSyscalls::kShortWrite),
                         [](const auto& test) -> std::string {
                           switch (test.param) {
                             case EIO:
                               return "EIO";
                             case ENOSPC:
                               return "ENOSPC";
                             case EINTR:
                               return "EINTR";
                             default:
                               return "short_write";
                           }
                         });

TEST(ReadFaults, errors_are_io_and_short_reads_go_on) {
  const TemporaryFolder folder;
  write_file(folder.file("x"), as_bytes("0123456789"));
  for (const int error : {EIO, EINTR, FaultSyscalls::kShortWrite}) {
    for (int n = 1;; ++n) {
      FaultSyscalls faults(n, error, /*reads_too=*/true);
      const ScopedSyscalls scope(faults);
      try {
        EXPECT_EQ(text_of(folder.file("x")), "0123456789");
      } catch (const Error& e) {
        EXPECT_EQ(e.kind(), ErrorKind::kIo);
        EXPECT_EQ(error, EIO);
      }
      if (!faults.fired()) break;
    }
  }
}

TEST(Paths, join_and_split) {
  EXPECT_EQ(folder_of("a/b"), "a");
  EXPECT_EQ(folder_of("b"), ".");
  EXPECT_EQ(folder_of("/b"), "/");
  EXPECT_EQ(join_path("a", "b"), "a/b");
  EXPECT_EQ(join_path("a/", "b"), "a/b");
}

}  // namespace
}  // namespace pith
