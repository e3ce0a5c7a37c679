#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdlib>
#include <ctime>
#include <filesystem>

#include "core/error.h"
#include "core/file.h"
#include "core/file_errors.h"

namespace pith {
namespace {

// The descriptor N in /proc/PID/fd/N and /proc/PID/task/TID/fd/N of this process; -1 for other
// paths.
int own_descriptor(const std::string& folder, const std::string& name) {
  if (!folder.starts_with(fmt::format("/proc/{}/", ::getpid())) || !folder.ends_with("/fd"))
    return -1;
  int n = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), n);
  return error == std::errc() && end == name.data() + name.size() ? n : -1;
}

std::string target_of_link(const std::string& link) {
  std::string target(PATH_MAX, '\0');
  const ssize_t n = ::readlink(link.c_str(), target.data(), target.size());
  if (n < 0) fail_io(errno, link, "follow the link");
  target.resize(static_cast<size_t>(n));
  return target;
}

std::string real_path(const std::string& folder, const std::string& named) {
  char* const resolved = ::realpath(folder.c_str(), nullptr);
  if (resolved == nullptr) fail_io(errno, named, "create");
  std::string out(resolved);
  ::free(resolved);
  return out;
}

// Removes ".NAME.tmp.PID.N" of processes that are gone. A live process holds a lock on its file.
void remove_leftovers(const std::string& folder, const std::string& name) {
  constexpr int64_t kLong = 3600;  // s, in which a process has got its lock
  const std::string prefix = fmt::format(".{}.tmp.", name);
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    const std::string file = it->path().filename().string();
    if (!file.starts_with(prefix)) continue;
    int process = 0;
    const char* const last = file.data() + file.size();
    const auto [at, bad] = std::from_chars(file.data() + prefix.size(), last, process);
    if (bad != std::errc() || at == last || *at != '.' || process <= 0) continue;
    if (file.find_first_not_of("0123456789", static_cast<size_t>(at - file.data()) + 1) !=
            std::string::npos ||
        process == ::getpid()) {
      continue;
    }
    const std::string path = it->path().string();
    const int fd = ::open(path.c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) continue;
    struct stat s;
    const bool ours = ::fstat(fd, &s) == 0 && S_ISREG(s.st_mode) && s.st_uid == ::geteuid();
    const bool gone = ::kill(process, 0) != 0 && errno == ESRCH;
    if (ours && (gone || ::time(nullptr) - s.st_mtime > kLong) &&
        ::flock(fd, LOCK_EX | LOCK_NB) == 0)
      ::unlink(path.c_str());
    ::close(fd);
  }
}

// In a folder like /tmp only the owner of a file may put another in its place.
void require_replaceable(const std::string& path, const std::string& folder) {
  struct stat file, around;
  if (::lstat(path.c_str(), &file) != 0 || ::stat(folder.c_str(), &around) != 0) return;
  const uid_t self = ::geteuid();
  if ((around.st_mode & S_ISVTX) != 0 && self != 0 && file.st_uid != self && around.st_uid != self)
    fail_io(EPERM, path, "replace");
}

// A named pipe opens when somebody reads it: that is waited for, until a signal ends the waiting.
int open_special(const std::string& path, const CancelToken& cancel) {
  for (;;) {
    const int fd =
        syscalls().open(path.c_str(), O_WRONLY | O_APPEND | O_NOCTTY | O_NONBLOCK | O_CLOEXEC, 0);
    if (fd >= 0 || (errno != ENXIO && errno != EINTR)) return fd;
    cancel.check();
    ::poll(nullptr, 0, 20);
  }
}

void write_to_special(const OutputPath& to, const std::string& named,
                      std::span<const std::byte> bytes, const CancelToken& cancel) {
  const int fd = to.descriptor >= 0 ? ::fcntl(to.descriptor, F_DUPFD_CLOEXEC, 3)
                                    : open_special(to.path, cancel);
  if (fd < 0) fail_io(errno, named, "open");
  int error = 0;
  while (!bytes.empty() && error == 0) {
    const ssize_t n = syscalls().write(fd, bytes.data(), bytes.size());
    if (n >= 0) {
      bytes = bytes.subspan(static_cast<size_t>(n));
    } else if (errno == EAGAIN) {
      pollfd p{fd, POLLOUT, 0};
      ::poll(&p, 1, 1000);
      if (cancel.cancelled()) error = EINTR;
    } else if (errno != EINTR) {
      error = errno;
    }
  }
  syscalls().close(fd);
  if (error != 0) fail_io(error, named, "write");
}

}  // namespace

OutputPath resolve_output(const std::string& path) {
  constexpr int kLinks = 40;
  std::string at = path;
  for (int i = 0; i < kLinks; ++i) {
    const std::string folder = real_path(folder_of(at), path);
    const std::string name = std::filesystem::path(at).filename().string();
    if (name.empty()) fail(ErrorKind::kIo, "{}: is a folder", path);
    at = join_path(folder, name);
    if (const int descriptor = own_descriptor(folder, name); descriptor >= 0)
      return {at, true, descriptor};
    struct stat s;
    if (::lstat(at.c_str(), &s) != 0) {
      if (errno == ENOENT) return {at};
      fail_io(errno, path, "create");
    }
    if (S_ISLNK(s.st_mode)) {
      if (folder.starts_with("/proc/")) return {at, true};  // a descriptor of another process
      const std::string target = target_of_link(at);
      at = target.starts_with('/') ? target : join_path(folder, target);
      continue;
    }
    if (S_ISREG(s.st_mode)) return {at, folder == "/proc" || folder.starts_with("/proc/")};
    if (S_ISCHR(s.st_mode) || S_ISFIFO(s.st_mode)) return {at, true};
    if (S_ISDIR(s.st_mode)) fail(ErrorKind::kIo, "{}: is a folder", path);
    fail(ErrorKind::kIo, "{}: not a regular file", path);
  }
  fail_io(ELOOP, path, "create");
}

void check_writable(const std::string& path) {
  if (path.empty() || path == "-") return;
  const OutputPath to = resolve_output(path);
  if (!to.special) {
    const NewFile probe(path);
  } else if (to.descriptor >= 0) {
    const int flags = ::fcntl(to.descriptor, F_GETFL);
    if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY)
      fail_io(flags < 0 ? errno : EBADF, path, "write");
  } else if (::access(to.path.c_str(), W_OK) != 0) {
    fail_io(errno, path, "write");
  }
}

NewFile::NewFile(const std::string& final_path, uint64_t reserve_bytes) {
  static std::atomic<unsigned> counter{0};
  const OutputPath to = resolve_output(final_path);
  // A rename would put a file in the place of a device or a pipe.
  if (to.special) fail(ErrorKind::kIo, "{}: not a regular file", final_path);
  final_path_ = to.path;
  const std::string folder = folder_of(final_path_);
  const std::string name = std::filesystem::path(final_path_).filename().string();
  require_replaceable(final_path_, folder);
  remove_leftovers(folder, name);
  temporary_path_ = join_path(folder, fmt::format(".{}.tmp.{}.{}", name, ::getpid(), counter++));
  file_ = File(open_retrying(temporary_path_, O_RDWR | O_CREAT | O_EXCL, "create", final_path),
               final_path);
  try {
    file_.try_lock();  // see remove_leftovers
    struct stat old;   // who could not read it before cannot read it afterwards
    if (::stat(final_path_.c_str(), &old) == 0) ::fchmod(file_.fd(), old.st_mode & 0777);
    file_.reserve(reserve_bytes);
  } catch (...) {
    syscalls().unlink(temporary_path_.c_str());
    throw;
  }
}
NewFile::~NewFile() {
  if (!committed_) syscalls().unlink(temporary_path_.c_str());
}
void NewFile::append(std::span<const std::byte> bytes) {
  file_.write(size_, bytes);
  size_ += bytes.size();
}
void NewFile::commit() {
  file_.truncate(size_);
  file_.sync();
  file_.close();
  rename_file(temporary_path_, final_path_);
  committed_ = true;
}

void write_file(const std::string& path, std::span<const std::byte> bytes,
                const CancelToken& cancel) {
  if (const OutputPath to = resolve_output(path); to.special)
    return write_to_special(to, path, bytes, cancel);
  NewFile file(path, bytes.size());
  file.append(bytes);
  file.commit();
}

}  // namespace pith
