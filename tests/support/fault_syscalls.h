// System calls that fail on demand:
//
//   for (int n = 1;; ++n) {
//     FaultSyscalls faults(n, ENOSPC);
//     const ScopedSyscalls scope(faults);
//     ... run, catch Error ...
//     if (!faults.fired()) break;
//     ... expect the kind of error, no temporary file, the output old or whole ...
//   }
//
// Counted are the calls that change something, the opening of folders and the closing of files;
// with `reads_too` the others as well. Safe to share among threads.
#pragma once

#include <fcntl.h>

#include <atomic>
#include <cerrno>

#include "core/file.h"

namespace pith::test {

// Syncs nothing: only a loss of power would tell, and no test does that.
class UnsyncedSyscalls : public Syscalls {
 public:
  int fdatasync(int) override { return 0; }
  int fsync(int) override { return 0; }
};

class FaultSyscalls : public UnsyncedSyscalls {
 public:
  // In place of the n-th call: an error of this number, or where it is kShortWrite a write (or
  // read) of half of the bytes.
  static constexpr int kShortWrite = -1;
  FaultSyscalls(int n, int error, bool reads_too = false)
      : left_(n), error_(error), reads_too_(reads_too) {}

  bool fired() const { return left_ <= 0; }
  const char* call() const { return call_; }  // the name of what failed

  int open(const char* path, int flags, unsigned mode) override {
    const bool counts = reads_too_ || (flags & (O_CREAT | O_DIRECTORY)) != 0;
    return counts && hit("open") ? failure() : Syscalls::open(path, flags, mode);
  }
  int close(int fd) override {
    // The descriptor is gone in any case, as with the real call.
    const bool fails = hit("close");
    const int result = Syscalls::close(fd);
    return fails ? failure() : result;
  }
  ssize_t pread(int fd, void* buffer, size_t n, off_t offset) override {
    if (!reads_too_ || !hit("pread")) return Syscalls::pread(fd, buffer, n, offset);
    return error_ == kShortWrite ? Syscalls::pread(fd, buffer, (n + 1) / 2, offset) : failure();
  }
  ssize_t pwrite(int fd, const void* buffer, size_t n, off_t offset) override {
    if (!hit("pwrite")) return Syscalls::pwrite(fd, buffer, n, offset);
    return error_ == kShortWrite ? Syscalls::pwrite(fd, buffer, (n + 1) / 2, offset) : failure();
  }
  int fallocate(int fd, off_t length) override {
    if (!hit("fallocate")) return Syscalls::fallocate(fd, length);
    return error_ == kShortWrite ? 0 : error_;
  }
  int ftruncate(int fd, off_t length) override {
    return hit("ftruncate") ? failure() : Syscalls::ftruncate(fd, length);
  }
  int fdatasync(int fd) override {
    return hit("fdatasync") ? failure() : UnsyncedSyscalls::fdatasync(fd);
  }
  int fsync(int fd) override { return hit("fsync") ? failure() : UnsyncedSyscalls::fsync(fd); }
  int rename(const char* from, const char* to) override {
    return hit("rename") ? failure() : Syscalls::rename(from, to);
  }
  int unlink(const char* path) override {
    return hit("unlink") ? failure() : Syscalls::unlink(path);
  }
  int mkdir(const char* path, unsigned mode) override {
    return hit("mkdir") ? failure() : Syscalls::mkdir(path, mode);
  }
  int rmdir(const char* path) override { return hit("rmdir") ? failure() : Syscalls::rmdir(path); }

 private:
  bool hit(const char* call) {
    // Short writes concern only these; the other calls are not counted then.
    if (error_ == kShortWrite && call[0] != 'p') return false;
    if (left_.fetch_sub(1) != 1) return false;
    call_ = call;
    return true;
  }
  int failure() const {
    errno = error_;
    return -1;
  }

  std::atomic<int> left_;
  const int error_;
  const bool reads_too_;
  std::atomic<const char*> call_{""};
};

}  // namespace pith::test
