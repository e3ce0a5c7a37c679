// Files as pith uses them: read by offset, mapped, or made new and swapped in whole.
//
// A NewFile is written beside its final name, reserved first, synced, renamed, and its folder
// synced: the final name holds the old content or all of the new one, and an existing file is never
// truncated. Symbolic links are followed and stay links. A path that is no regular file (a
// terminal, a pipe, a descriptor of this process by its name in /dev or /proc) is written to and
// never replaced. Errors name the path; a full disk is kNoSpace, all else kIo.
//
// All system calls go through Syscalls, so that tests can fail the n-th of them.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/cancel.h"

namespace pith {

class Syscalls {
 public:
  virtual ~Syscalls() = default;
  virtual int open(const char* path, int flags, unsigned mode);
  virtual int close(int fd);
  virtual ssize_t pread(int fd, void* buffer, size_t n, off_t offset);
  virtual ssize_t pwrite(int fd, const void* buffer, size_t n, off_t offset);
  virtual ssize_t write(int fd, const void* buffer, size_t n);
  virtual int fallocate(int fd, off_t length);  // posix_fallocate: returns the error
  virtual int ftruncate(int fd, off_t length);
  virtual int fdatasync(int fd);
  virtual int fsync(int fd);
  virtual int rename(const char* from, const char* to);
  virtual int unlink(const char* path);
  virtual int mkdir(const char* path, unsigned mode);
  virtual int rmdir(const char* path);
};

// The calls in force; tests swap them with ScopedSyscalls.
Syscalls& syscalls();
class ScopedSyscalls {
 public:
  explicit ScopedSyscalls(Syscalls& replacement);
  ~ScopedSyscalls();

 private:
  Syscalls* previous_;
};

// An open file descriptor. Reads and writes by offset, so threads may share it.
class File {
 public:
  File() = default;
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  static File open_read(const std::string& path);        // regular files only
  static File open_read_write(const std::string& path);  // creates it where missing
  static File create(const std::string& path);  // Error(kIo) where it exists, be it as a link
  // Creates it where missing. Error(kUsage) where it is a symbolic link, not a regular file, owned
  // by another user, or has further hard links: writing to it cannot change any other file.
  static File open_own(const std::string& path);

  const std::string& path() const { return path_; }
  bool is_open() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  uint64_t size() const;
  int64_t modified_ns() const;
  bool is_at(const std::string& path) const;  // whether the path leads to this very file
  void read(uint64_t offset, std::span<std::byte> to) const;  // all of it, or Error(kIo)
  void write(uint64_t offset, std::span<const std::byte> from);
  void reserve(uint64_t size);  // Error(kNoSpace) now rather than in an hour
  void truncate(uint64_t size);
  void sync();
  bool try_lock();  // exclusive advisory lock, released on close
  void close();     // reports what the destructor would swallow

 private:
  friend class NewFile;
  File(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  int fd_ = -1;
  std::string path_;
};

// A whole file mapped for reading. Where the file is cut short underneath, a touch of the lost part
// ends the process with one line that names it (see install_mapping_guard).
class MappedFile {
 public:
  static std::shared_ptr<const MappedFile> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  MappedFile() = default;
  std::string path_;
  std::span<const std::byte> bytes_;
};

// Handles SIGBUS inside a MappedFile: prints "model file changed while in use: PATH" and exits with
// code 4. Ignores SIGXFSZ, so that exceeding the file size limit is an error of that write. Called
// once by main.
void install_mapping_guard();

// The target of a path that is to be written.
struct OutputPath {
  std::string path;      // with all links resolved; the file need not exist
  bool special = false;  // not a regular file: written in place
  int descriptor = -1;   // one of this process's: /dev/stdout, /dev/fd/3, /proc/self/fd/3
};
// Error(kIo) naming the path where it is a folder, a socket or a disk, or its folder is missing.
OutputPath resolve_output(const std::string& path);

// Throws Error(kIo) or Error(kNoSpace) now if write_file would fail later, so that long work does
// not fail at its end. Leaves nothing behind. Does nothing for "" and "-".
void check_writable(const std::string& path);

// A file in the making; unlinked unless commit() returns. The leftover of a killed process is
// removed by the next NewFile with the same name.
class NewFile {
 public:
  explicit NewFile(const std::string& final_path, uint64_t reserve_bytes = 0);
  ~NewFile();
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  File& file() { return file_; }
  void append(std::span<const std::byte> bytes);
  uint64_t size() const { return size_; }
  void commit();

 private:
  std::string final_path_, temporary_path_;
  File file_;
  uint64_t size_ = 0;
  bool committed_ = false;
};

std::vector<std::byte> read_file(const std::string& path, uint64_t max_bytes);
std::string read_text_file(const std::string& path, uint64_t max_bytes);
// Through NewFile, or directly into a path that is no regular file.
// `cancel` ends the wait for somebody who reads a pipe.
void write_file(const std::string& path, std::span<const std::byte> bytes,
                const CancelToken& cancel = CancelToken::never());

// Makes `from` (already synced) appear as `to`, durably.
void rename_file(const std::string& from, const std::string& to);
void remove_file(const std::string& path);  // no error where it is missing
void sync_folder_of(const std::string& path);
bool file_exists(const std::string& path);
bool is_folder(const std::string& path);
bool is_regular_file(const std::string& path);
// Free bytes on the disk of a path, which need not exist. UINT64_MAX where the system does not say.
uint64_t free_space(const std::string& path);
uint64_t allocated_bytes(const std::string& path);  // disk space that the file occupies
bool same_file(const std::string& a,
               const std::string& b);  // by device and inode; false where one is missing
std::string folder_of(const std::string& path);
std::string join_path(const std::string& folder, const std::string& name);

}  // namespace pith
