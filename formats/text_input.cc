#include "formats/text_input.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "core/interrupt.h"
#include "formats/tokenizer/unicode.h"

namespace pith {
namespace {

class Descriptor {
 public:
  explicit Descriptor(const std::string& path) {
    if (path == "-") {
      fd_ = ::dup(0);
    } else {
      fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    }
    if (fd_ < 0) fail(ErrorKind::kIo, "{}: cannot open: {}", path, std::strerror(errno));
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

std::string read_all(const std::string& path, uint64_t max_bytes) {
  const Descriptor in(path);
  struct stat s;
  if (::fstat(in.get(), &s) != 0) fail(ErrorKind::kIo, "{}: {}", path, std::strerror(errno));
  if (S_ISDIR(s.st_mode)) fail(ErrorKind::kIo, "{}: is a folder", path);
  if (S_ISSOCK(s.st_mode) || S_ISBLK(s.st_mode))
    fail(ErrorKind::kIo, "{}: neither a file nor a pipe", path);
  std::string out;
  for (size_t piece = size_t{1} << 16;;) {
    const size_t before = out.size();
    out.resize(before + piece);
    const ssize_t n = ::read(in.get(), out.data() + before, piece);
    out.resize(before + static_cast<size_t>(n > 0 ? n : 0));
    if (n < 0 && errno == EINTR) {
      check_interrupt();
      continue;
    }
    if (n < 0) fail(ErrorKind::kIo, "{}: cannot read: {}", path, std::strerror(errno));
    if (n == 0) return out;
    if (out.size() > max_bytes)
      fail(ErrorKind::kCorrupt, "{}: more than {} bytes of text", path, max_bytes);
    piece = std::max(piece, out.size());
  }
}

std::string gunzip(const std::string& packed, const std::string& path, uint64_t max_bytes) {
  z_stream z{};
  if (::inflateInit2(&z, 15 + 16) != Z_OK) fail(ErrorKind::kMemory, "{}: cannot unpack", path);
  const struct End {
    z_stream* z;
    ~End() { ::inflateEnd(z); }
  } end{&z};
  std::string out;
  size_t taken = 0;
  for (;;) {
    if (z.avail_in == 0) {
      const size_t n = std::min(packed.size() - taken, size_t{1} << 30);
      z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data() + taken));
      z.avail_in = static_cast<uInt>(n);
      taken += n;
    }
    const size_t before = out.size();
    out.resize(before + (size_t{1} << 18));
    z.next_out = reinterpret_cast<Bytef*>(out.data() + before);
    z.avail_out = 1u << 18;
    const int status = ::inflate(&z, Z_NO_FLUSH);
    out.resize(out.size() - z.avail_out);
    if (out.size() > max_bytes)
      fail(ErrorKind::kCorrupt, "{}: more than {} bytes of text when unpacked", path, max_bytes);
    if (status == Z_STREAM_END) {
      if (z.avail_in == 0 && taken == packed.size()) return out;
      ::inflateReset(&z);  // the next member
      continue;
    }
    const bool starved = status == Z_BUF_ERROR && z.avail_in == 0 && taken == packed.size();
    if (starved) fail(ErrorKind::kCorrupt, "{}: the gzip data end too early", path);
    if (status != Z_OK && status != Z_BUF_ERROR)
      fail(ErrorKind::kCorrupt, "{}: broken gzip data: {}", path, z.msg ? z.msg : "unknown");
  }
}

void check_text(const std::string& text, const std::string& path) {
  const std::string_view head = std::string_view(text).substr(0, 2);
  if (head == "\xff\xfe" || head == "\xfe\xff") {
    fail(ErrorKind::kCorrupt, "{}: this is UTF-16; convert it: iconv -f UTF-16 -t UTF-8", path);
  }
  if (const size_t nul = text.find('\0'); nul != std::string::npos) {
    fail(ErrorKind::kCorrupt, "{}: no text: byte {} is NUL", path, nul);
  }
  if (const size_t at = valid_utf8_prefix(text); at < text.size()) {
    fail(ErrorKind::kCorrupt,
         "{}: no UTF-8 text: byte 0x{:02x} at {}; if it is Latin-1, convert it: iconv -f LATIN1 "
         "-t UTF-8",
         path, static_cast<unsigned char>(text[at]), at);
  }
}

}  // namespace

std::string read_text_input(const std::string& path, uint64_t max_bytes) {
  std::string text = read_all(path, max_bytes);
  if (text.starts_with("\x1f\x8b")) text = gunzip(text, path, max_bytes);
  check_text(text, path);
  return text;
}

}  // namespace pith
