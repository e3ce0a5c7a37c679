#include "core/file.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>

#include "core/bytes.h"
#include "core/error.h"
#include "core/hash.h"

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

[[noreturn]] void fail_io(int error, const std::string& path, const char* action) {
  const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
  fail(full ? ErrorKind::kNoSpace : ErrorKind::kIo, "{}: cannot {}: {}", path, action,
       std::strerror(error));
}

// `named`: the path for messages.
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

struct stat stat_of(int fd, const std::string& path) {
  struct stat s;
  if (::fstat(fd, &s) != 0) fail_io(errno, path, "stat");
  return s;
}

}  // namespace

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
uint64_t File::identity() const {
  const auto s = stat_of(fd_, path_);
  const uint64_t parts[] = {s.st_dev, s.st_ino, static_cast<uint64_t>(s.st_size),
                            static_cast<uint64_t>(modified_ns())};
  return hash64(std::as_bytes(std::span(parts)));
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

namespace {

// Mappings that the SIGBUS handler can look through without a lock: slots in a chain that only
// grows.
struct MappingSlot {
  std::atomic<const std::byte*> begin{nullptr};
  std::atomic<size_t> size{0};
  std::atomic<const char*> path{nullptr};
};
struct MappingSlots {
  std::array<MappingSlot, 64> slots;
  std::atomic<MappingSlots*> next{nullptr};
};
MappingSlots first_slots;

// The first slot that f(slot) takes, or null.
template <class F>
MappingSlot* find_slot(F f) {
  for (MappingSlots* s = &first_slots; s != nullptr; s = s->next) {
    for (auto& slot : s->slots) {
      if (f(slot)) return &slot;
    }
  }
  return nullptr;
}

void add_slots() {
  auto* const added = new MappingSlots;
  for (MappingSlots* s = &first_slots;; s = s->next) {
    MappingSlots* expected = nullptr;
    if (s->next.compare_exchange_strong(expected, added)) return;
  }
}

void on_bus_error(int, siginfo_t* info, void*) {
  const auto* address = static_cast<const std::byte*>(info->si_addr);
  const MappingSlot* const slot = find_slot([&](const MappingSlot& s) {
    const std::byte* begin = s.begin;
    return begin != nullptr && address >= begin && address < begin + s.size;
  });
  if (slot != nullptr) {
    const char message[] = "pith: model file changed while in use: ";
    const char* path = slot->path;
    [[maybe_unused]] ssize_t ignored = ::write(2, message, sizeof(message) - 1);
    ignored = ::write(2, path, std::strlen(path));
    ignored = ::write(2, "\n", 1);
    ::_exit(4);
  }
  ::signal(SIGBUS, SIG_DFL);
  ::raise(SIGBUS);
}

}  // namespace

void install_mapping_guard() {
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, nullptr);
  ::signal(SIGXFSZ, SIG_IGN);
}

std::shared_ptr<const MappedFile> MappedFile::open(const std::string& path) {
  const File file = File::open_read(path);
  const uint64_t size = file.size();
  std::shared_ptr<MappedFile> mapped(new MappedFile);
  mapped->path_ = path;
  if (size == 0) return mapped;
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.fd(), 0);
  if (data == MAP_FAILED && errno == ENOMEM)
    fail(ErrorKind::kMemory, "{}: no memory to map {} bytes", path, size);
  if (data == MAP_FAILED) fail_io(errno, path, "map");
  mapped->bytes_ = {static_cast<const std::byte*>(data), size};
  const auto take = [&](MappingSlot& s) {
    const char* expected = nullptr;
    return s.path.compare_exchange_strong(expected, mapped->path_.c_str());
  };
  MappingSlot* slot = find_slot(take);
  while (slot == nullptr) {
    add_slots();
    slot = find_slot(take);
  }
  slot->size = size;
  slot->begin = mapped->bytes_.data();
  return mapped;
}
MappedFile::~MappedFile() {
  if (bytes_.empty()) return;
  MappingSlot* const slot =
      find_slot([&](const MappingSlot& s) { return s.begin == bytes_.data(); });
  if (slot != nullptr) {
    slot->begin = nullptr;
    slot->path = nullptr;
  }
  ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

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
void write_file(const std::string& path, std::span<const std::byte> bytes,
                const CancelToken& cancel) {
  if (const OutputPath to = resolve_output(path); to.special)
    return write_to_special(to, path, bytes, cancel);
  NewFile file(path, bytes.size());
  file.append(bytes);
  file.commit();
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
