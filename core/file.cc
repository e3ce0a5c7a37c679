#include "core/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "core/bytes.h"
#include "core/error.h"
#include "core/file_errors.h"

namespace pith {

int Syscalls::open(const char* path, int flags, unsigned mode) { return ::open(path, flags, mode); }
int Syscalls::close(int fd) { return ::close(fd); }
ssize_t Syscalls::pread(int fd, void* b, size_t n, off_t o) { return ::pread(fd, b, n, o); }
ssize_t Syscalls::pwrite(int fd, const void* b, size_t n, off_t o) { return ::pwrite(fd, b, n, o); }
ssize_t Syscalls::write(int fd, const void* b, size_t n) { return ::write(fd, b, n); }
int Syscalls::fallocate(int fd, off_t length) { return ::posix_fallocate(fd, 0, length); }
int Syscalls::ftruncate(int fd, off_t length) { return ::ftruncate(fd, length); }
int Syscalls::fdatasync(int fd) { return ::fdatasync(fd); }
int Syscalls::fsync(int fd) { return ::fsync(fd); }
int Syscalls::rename(const char* from, const char* to) { return ::rename(from, to); }
int Syscalls::unlink(const char* path) { return ::unlink(path); }
int Syscalls::mkdir(const char* path, unsigned mode) { return ::mkdir(path, mode); }
int Syscalls::rmdir(const char* path) { return ::rmdir(path); }

namespace {

Syscalls real_syscalls;
std::atomic<Syscalls*> current_syscalls{&real_syscalls};

struct stat stat_of(int fd, const std::string& path) {
  struct stat s;
  if (::fstat(fd, &s) != 0) fail_io(errno, path, "stat");
  return s;
}

}  // namespace

void fail_io(int error, const std::string& path, const char* action) {
  const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
  fail(full ? ErrorKind::kNoSpace : ErrorKind::kIo, "{}: cannot {}: {}", path, action,
       std::strerror(error));
}

int open_retrying(const std::string& path, int flags, const char* action,
                  const std::string& named) {
  int fd;
  do {
    fd = syscalls().open(path.c_str(), flags | O_CLOEXEC, 0666);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) fail_io(errno, named, action);
  return fd;
}
int open_retrying(const std::string& path, int flags, const char* action) {
  return open_retrying(path, flags, action, path);
}

Syscalls& syscalls() { return *current_syscalls; }
ScopedSyscalls::ScopedSyscalls(Syscalls& replacement)
    : previous_(current_syscalls.exchange(&replacement)) {}
ScopedSyscalls::~ScopedSyscalls() { current_syscalls = previous_; }

File::File(File&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}
File& File::operator=(File&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) syscalls().close(fd_);
    fd_ = std::exchange(other.fd_, -1);
    path_ = std::move(other.path_);
  }
  return *this;
}
File::~File() {
  if (fd_ >= 0) syscalls().close(fd_);
}

namespace {

void require_regular(mode_t mode, const std::string& path) {
  const char* const what = S_ISDIR(mode)    ? "a folder"
                           : S_ISFIFO(mode) ? "a pipe"
                           : S_ISSOCK(mode) ? "a socket"
                           : S_ISCHR(mode)  ? "a device"
                           : S_ISBLK(mode)  ? "a device"
                                            : nullptr;
  if (what != nullptr) fail(ErrorKind::kIo, "{}: is {}, not a regular file", path, what);
}

}  // namespace

// The type is looked at before the file is opened, since opening a pipe waits for its writer and
// opening a device may do anything. Without O_NONBLOCK a pipe that took the file's place in between
// would still be waited for.
File File::open_read(const std::string& path) {
  struct stat s;
  if (::stat(path.c_str(), &s) == 0) require_regular(s.st_mode, path);
  File f(open_retrying(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, "open"), path);
  require_regular(stat_of(f.fd_, path).st_mode, path);
  return f;
}
File File::open_read_write(const std::string& path) {
  return File(open_retrying(path, O_RDWR | O_CREAT, "create"), path);
}
File File::create(const std::string& path) {
  return File(open_retrying(path, O_RDWR | O_CREAT | O_EXCL, "create"), path);
}
File File::open_own(const std::string& path) {
  struct stat s;
  if (::lstat(path.c_str(), &s) == 0 && S_ISLNK(s.st_mode))
    fail(ErrorKind::kUsage, "{}: a link, and not a file of pith's", path);
  File f(open_retrying(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, "create"), path);
  s = stat_of(f.fd_, path);
  const char* wrong = !S_ISREG(s.st_mode)       ? "not a regular file"
                      : s.st_uid != ::geteuid() ? "it belongs to another user"
                      : s.st_nlink != 1         ? "it has other names (hard links)"
                                                : nullptr;
  if (wrong != nullptr) fail(ErrorKind::kUsage, "{}: not a file of pith's: {}", path, wrong);
  return f;
}

uint64_t File::size() const { return static_cast<uint64_t>(stat_of(fd_, path_).st_size); }
int64_t File::modified_ns() const {
  const auto s = stat_of(fd_, path_);
  return s.st_mtim.tv_sec * 1'000'000'000 + s.st_mtim.tv_nsec;
}
bool File::is_at(const std::string& path) const {
  const auto here = stat_of(fd_, path_);
  struct stat there;
  return ::stat(path.c_str(), &there) == 0 && here.st_dev == there.st_dev &&
         here.st_ino == there.st_ino;
}

void File::read(uint64_t offset, std::span<std::byte> to) const {
  while (!to.empty()) {
    const ssize_t n = syscalls().pread(fd_, to.data(), to.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_io(errno, path_, "read");
    if (n == 0)
      fail(ErrorKind::kIo, "{}: ends at {}, {} more bytes were expected", path_, offset, to.size());
    to = to.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
}
void File::write(uint64_t offset, std::span<const std::byte> from) {
  while (!from.empty()) {
    const ssize_t n = syscalls().pwrite(fd_, from.data(), from.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail_io(n < 0 ? errno : EIO, path_, "write");
    from = from.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
}
void File::reserve(uint64_t size) {
  if (size == 0) return;
  int error;
  do {
    error = syscalls().fallocate(fd_, checked_cast<off_t>(size, path_));
  } while (error == EINTR);
  if (error != 0 && error != EOPNOTSUPP && error != EINVAL) fail_io(error, path_, "reserve space");
}
void File::truncate(uint64_t size) {
  if (syscalls().ftruncate(fd_, checked_cast<off_t>(size, path_)) != 0)
    fail_io(errno, path_, "resize");
}
void File::sync() {
  if (syscalls().fdatasync(fd_) != 0) fail_io(errno, path_, "sync");
}
bool File::try_lock() { return ::flock(fd_, LOCK_EX | LOCK_NB) == 0; }
void File::close() {
  if (fd_ >= 0 && syscalls().close(std::exchange(fd_, -1)) != 0 && errno != EINTR) {
    fail_io(errno, path_, "close");
  }
}

std::vector<std::byte> read_file(const std::string& path, uint64_t max_bytes) {
  const File file = File::open_read(path);
  const uint64_t size = file.size();
  if (size > max_bytes) {
    fail(ErrorKind::kCorrupt, "{}: {} bytes, at most {} were expected", path, size, max_bytes);
  }
  std::vector<std::byte> bytes(size);
  file.read(0, bytes);
  return bytes;
}
std::string read_text_file(const std::string& path, uint64_t max_bytes) {
  const auto bytes = read_file(path, max_bytes);
  return std::string(as_text(bytes));
}
void rename_file(const std::string& from, const std::string& to) {
  if (syscalls().rename(from.c_str(), to.c_str()) != 0) fail_io(errno, to, "rename to");
  sync_folder_of(to);
}
void remove_file(const std::string& path) {
  if (syscalls().unlink(path.c_str()) != 0 && errno != ENOENT) fail_io(errno, path, "remove");
}
void sync_folder_of(const std::string& path) {
  const std::string folder = folder_of(path);
  const int fd = open_retrying(folder, O_RDONLY | O_DIRECTORY, "open folder");
  const int result = syscalls().fsync(fd);
  const int error = errno;
  syscalls().close(fd);
  if (result != 0 && error != EINVAL) fail_io(error, folder, "sync folder");
}
bool file_exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }
bool is_folder(const std::string& path) {
  struct stat s;
  return ::stat(path.c_str(), &s) == 0 && S_ISDIR(s.st_mode);
}
bool is_regular_file(const std::string& path) {
  struct stat s;
  return ::stat(path.c_str(), &s) == 0 && S_ISREG(s.st_mode);
}
uint64_t free_space(const std::string& path) {
  struct statvfs s;
  if (::statvfs(folder_of(path).c_str(), &s) != 0 || s.f_blocks == 0) return UINT64_MAX;
  return checked_mul(s.f_bavail, s.f_frsize, path);
}
uint64_t allocated_bytes(const std::string& path) {
  struct stat s;
  return ::stat(path.c_str(), &s) == 0 ? static_cast<uint64_t>(s.st_blocks) * 512 : 0;
}
bool same_file(const std::string& a, const std::string& b) {
  struct stat x, y;
  return ::stat(a.c_str(), &x) == 0 && ::stat(b.c_str(), &y) == 0 && x.st_dev == y.st_dev &&
         x.st_ino == y.st_ino;
}
std::string folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}
std::string join_path(const std::string& folder, const std::string& name) {
  return (std::filesystem::path(folder) / name).string();
}

}  // namespace pith
