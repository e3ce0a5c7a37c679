// Disks that fail: every system call of a whole quantization in turn, full and read-only file
// systems, outputs that cannot be.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <set>

#include "core/bytes.h"
#include "core/error.h"
#include "core/file.h"
#include "quant/quantize_pass.h"
#include "runtime/compress/driver.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/process.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

using test::FaultSyscalls;

std::string content(const std::string& path) { return read_text_file(path, 1 << 26); }

std::set<std::string> entries(const std::string& folder) {
  std::set<std::string> out;
  for (const auto& e : std::filesystem::recursive_directory_iterator(folder))
    out.insert(e.path().filename());
  return out;
}

class Faults : public testing::Test {
 protected:
  Faults() {
    test::write_tiny_checkpoint(in_.file("in"), test::tiny_config({.layers = 2}), DType::kF16);
    source_ = open_model(in_.file("in"));
    quantize(in_.file("expected.pith"));
    expected_ = content(in_.file("expected.pith"));
  }
  void quantize(const std::string& to) {
    Passes passes;
    passes.push_back(
        make_quantize_pass({.linears = encoding_for_type("w4"), .ignore = {}, .overrides = {}}));
    compress(*source_, passes, {.output = to, .calibration = {}});
  }
  test::ProcessResult run(const std::string& to, const std::vector<std::string>& more = {}) {
    std::vector<std::string> command = {PITH_PROGRAM, "quantize", in_.file("in"), to,
                                        "w4",         "--method", "rtn",          "-q"};
    command.insert(command.end(), more.begin(), more.end());
    return test::run_process(command);
  }

  test::TemporaryFolder in_, out_;
  std::unique_ptr<ModelSource> source_;
  std::string expected_;
};

TEST_F(Faults, every_call_that_fails_is_an_error_and_the_old_output_stays) {
  const struct {
    int error;
    ErrorKind kind;
  } cases[] = {{EIO, ErrorKind::kIo},
               {ENOSPC, ErrorKind::kNoSpace},
               {EINTR, ErrorKind::kIo},
               {FaultSyscalls::kShortWrite, ErrorKind::kIo}};
  const std::string output = out_.file("out.pith");
  for (const auto& c : cases) {
    int n = 1, failures = 0;
    for (;; ++n) {
      write_file(output, as_bytes("old"));
      FaultSyscalls faults(n, c.error);
      bool failed = false;
      try {
        const ScopedSyscalls scope(faults);
        quantize(output);
      } catch (const Error& e) {
        failed = true;
        ++failures;
        EXPECT_EQ(kind_name(e.kind()), std::string(kind_name(c.kind)))
            << faults.call() << ": " << e.what();
        EXPECT_NE(std::string(e.what()).find(out_.path()), std::string::npos) << e.what();
      }
      const std::string where = std::string(faults.call()) + ", call " + std::to_string(n) +
                                ", error " + std::to_string(c.error);
      const std::string found = content(output);
      if (failed) {
        // What fails once the name is the new file's cannot undo that.
        EXPECT_TRUE(found == "old" || found == expected_) << where;
      } else {
        EXPECT_TRUE(found == expected_) << where;
      }
      // Finished parts are kept, as the message says: the next run goes on to the same bytes.
      auto left = entries(out_.path());
      left.erase("out.pith");
      for (const char* file : {"out.pith.work", "journal", "data"}) left.erase(file);
      EXPECT_TRUE(left.empty()) << where << ": " << *left.begin();
      if (file_exists(output + ".work")) {
        test::UnsyncedSyscalls unsynced;
        const ScopedSyscalls scope(unsynced);
        quantize(output);
        EXPECT_TRUE(content(output) == expected_) << where;
        EXPECT_FALSE(file_exists(output + ".work")) << where;
      }
      if (!faults.fired()) break;
    }
    RecordProperty(std::string("calls_") + std::to_string(c.error), n - 1);
    EXPECT_GT(n, c.error == FaultSyscalls::kShortWrite ? 50 : 100) << c.error;
    if (c.error == FaultSyscalls::kShortWrite) {
      EXPECT_EQ(failures, 0);
    }
  }
}

TEST_F(Faults, every_read_of_the_source_that_fails_is_an_error) {
  const std::string output = out_.file("out.pith");
  for (const int error : {EIO, static_cast<int>(FaultSyscalls::kShortWrite)}) {
    for (int n = 1;; n += 3) {
      FaultSyscalls faults(n, error, true);
      try {
        {
          const ScopedSyscalls scope(faults);
          source_ = open_model(in_.file("in"));
          quantize(output);
        }
        EXPECT_TRUE(!faults.fired() || error != EIO || std::string(faults.call()) == "close" ||
                    std::string(faults.call()) == "rmdir" || std::string(faults.call()) == "unlink")
            << faults.call();
        EXPECT_TRUE(content(output) == expected_);
      } catch (const Error& e) {
        EXPECT_EQ(e.kind(), ErrorKind::kIo) << e.what();
        EXPECT_EQ(error, EIO) << e.what();
      }
      std::error_code ignored;
      std::filesystem::remove(output, ignored);
      std::filesystem::remove_all(output + ".work", ignored);
      if (!faults.fired()) break;
    }
  }
}

// ---- Real file systems ----

class Mounted {
 public:
  Mounted(const std::string& path, const char* options) : path_(path) {
    std::filesystem::create_directories(path);
    mounted_ = ::mount("tmpfs", path.c_str(), "tmpfs", 0, options) == 0;
  }
  ~Mounted() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  explicit operator bool() const { return mounted_; }
  bool make_read_only() const {
    return ::mount("tmpfs", path_.c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, nullptr) == 0;
  }

 private:
  std::string path_;
  bool mounted_;
};

TEST_F(Faults, a_full_disk_is_said_and_the_old_output_stays) {
  const Mounted disk(out_.file("disk"), "size=40k");
  if (!disk) GTEST_SKIP() << "mounting a tmpfs is not allowed here";
  const std::string output = out_.file("disk/out.pith");
  write_file(output, as_bytes("old"));
  EXPECT_PITH_ERROR(quantize(output), ErrorKind::kNoSpace, "out.pith.work");
  EXPECT_TRUE(content(output) == "old");
  EXPECT_EQ(entries(out_.file("disk")), std::set<std::string>{"out.pith"});
  const auto r = run(output);
  EXPECT_EQ(r.exit_code, 4) << r.err;
  EXPECT_NE(r.err.find("No space left on device"), std::string::npos) << r.err;
  EXPECT_EQ(entries(out_.file("disk")), std::set<std::string>{"out.pith"});
}

TEST_F(Faults, a_read_only_file_system_is_said) {
  const Mounted disk(out_.file("disk"), "size=1m");
  if (!disk) GTEST_SKIP() << "mounting a tmpfs is not allowed here";
  const std::string output = out_.file("disk/out.pith");
  write_file(output, as_bytes("old"));
  if (!disk.make_read_only()) GTEST_SKIP() << "remounting is not allowed here";
  const auto r = run(output);
  EXPECT_EQ(r.exit_code, 4) << r.err;
  EXPECT_NE(r.err.find("Read-only file system"), std::string::npos) << r.err;
  EXPECT_TRUE(content(output) == "old");
  EXPECT_EQ(entries(out_.file("disk")), std::set<std::string>{"out.pith"});
}

TEST_F(Faults, a_folder_without_permission_is_said) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write anywhere";
  std::filesystem::permissions(
      out_.path(), std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
  const auto r = run(out_.file("out.pith"));
  EXPECT_EQ(r.exit_code, 4) << r.err;
  EXPECT_NE(r.err.find("Permission denied"), std::string::npos) << r.err;
}

TEST_F(Faults, an_output_that_is_the_input_is_refused) {
  const std::string tensors = in_.file("in/model.safetensors"), before = content(tensors);
  std::filesystem::create_symlink(tensors, out_.file("link"));
  std::filesystem::create_hard_link(tensors, in_.file("hard"));
  for (const auto& output : {tensors, in_.file("in/../in/model.safetensors"), out_.file("link"),
                             in_.file("hard"), in_.file("in"), in_.file("in") + "/"}) {
    const auto r = run(output);
    EXPECT_EQ(r.exit_code, 2) << output << r.err;
    EXPECT_NE(r.err.find("the output is the input"), std::string::npos) << output << r.err;
    EXPECT_THROW(quantize(output), Error) << output;
    EXPECT_TRUE(content(tensors) == before) << output;
    EXPECT_FALSE(file_exists(output + ".work")) << output;
  }
  // A packed file as its own output.
  std::filesystem::create_symlink(in_.file("expected.pith"), out_.file("packed"));
  for (const auto& output : {in_.file("expected.pith"), out_.file("packed")}) {
    const auto r = test::run_process({PITH_PROGRAM, "quantize", in_.file("expected.pith"), output,
                                      "w3", "--method", "rtn", "-q"});
    EXPECT_EQ(r.exit_code, 2) << r.err;
    EXPECT_NE(r.err.find("the output is the input"), std::string::npos) << r.err;
    EXPECT_TRUE(content(in_.file("expected.pith")) == expected_);
  }
}

TEST_F(Faults, an_output_that_is_a_folder_or_a_device_is_refused) {
  std::filesystem::create_directory(out_.file("folder"));
  const auto r = run(out_.file("folder"));
  EXPECT_EQ(r.exit_code, 2) << r.err;
  EXPECT_NE(r.err.find("the output is a folder"), std::string::npos) << r.err;
  ASSERT_EQ(::mkfifo(out_.file("pipe").c_str(), 0600), 0);
  const auto pipe = run(out_.file("pipe"));
  EXPECT_EQ(pipe.exit_code, 2) << pipe.err;
  EXPECT_NE(pipe.err.find("not a regular file"), std::string::npos) << pipe.err;
  const int reader = ::open(out_.file("pipe").c_str(), O_RDONLY | O_NONBLOCK);
  const auto json = run(out_.file("out.pith"), {"--dry-run", "--json", out_.file("pipe")});
  EXPECT_EQ(json.exit_code, 0) << json.err;
  char first = 0;
  EXPECT_EQ(::read(reader, &first, 1), 1);
  EXPECT_EQ(first, '{');
  ::close(reader);
  EXPECT_EQ(entries(out_.path()), (std::set<std::string>{"folder", "pipe"}));
  EXPECT_TRUE(std::filesystem::is_fifo(out_.file("pipe")));
}

TEST_F(Faults, a_symbolic_link_as_output_stays_and_its_target_is_written) {
  std::filesystem::create_directory(out_.file("elsewhere"));
  write_file(out_.file("elsewhere/target"), as_bytes("old"));
  std::filesystem::create_symlink("elsewhere/target", out_.file("link"));
  ASSERT_EQ(run(out_.file("link")).exit_code, 0);
  EXPECT_TRUE(content(out_.file("elsewhere/target")) == expected_);
  EXPECT_TRUE(std::filesystem::is_symlink(out_.file("link")));
  EXPECT_EQ(entries(out_.path()), (std::set<std::string>{"elsewhere", "target", "link"}));
}

TEST_F(Faults, a_failure_in_the_midst_of_the_work_leaves_nothing) {
  test::write_tiny_checkpoint(in_.file("bad"), test::tiny_config({.layers = 2}), DType::kF32,
                              [](const std::string& name, std::vector<float>& w) {
                                if (name == "lm_head.weight")
                                  w[77] = std::numeric_limits<float>::quiet_NaN();
                              });
  write_file(out_.file("out.pith"), as_bytes("old"));
  const auto r =
      test::run_process({PITH_PROGRAM, "quantize", in_.file("bad"), out_.file("out.pith"), "-q"});
  EXPECT_EQ(r.exit_code, 5) << r.err;
  EXPECT_NE(r.err.find("head: weight [1, 13] is nan"), std::string::npos) << r.err;
  EXPECT_TRUE(content(out_.file("out.pith")) == "old");
  EXPECT_EQ(entries(out_.path()), std::set<std::string>{"out.pith"});
}

}  // namespace
}  // namespace pith
