#include "formats/text_input.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/function_ref.h"
#include "core/utf8.h"
#include "formats/file_magic.h"
#include "formats/gzip.h"

namespace pith {
namespace {

struct Descriptor {
  const int fd;
  ~Descriptor() { ::close(fd); }
};

std::string read_all(const std::string& path, uint64_t max_bytes, const CancelToken& cancel) {
  const Descriptor in{open_text_input(path)};
  struct stat s;
  if (::fstat(in.fd, &s) != 0) fail(ErrorKind::kIo, "{}: {}", path, std::strerror(errno));
  const bool regular = S_ISREG(s.st_mode);
  constexpr size_t kLong = 16 << 20;
  std::string out;
  std::vector<std::string> full;  // pieces of a pipe: one string would be copied while it grows
  uint64_t total = 0;
  const auto whole = [&] {
    if (full.empty()) return std::move(out);
    std::string all;
    all.reserve(total);
    for (auto& p : full) {
      all += p;
      p = {};
    }
    return all += out;
  };
  // One read of a pipe returns at most 64 KiB; a longer buffer would only be zeroed.
  for (size_t piece = regular ? static_cast<size_t>(s.st_size) + 1 : size_t{1} << 16;;) {
    piece = std::min<size_t>(piece, max_bytes + 1);
    if (!regular && !cancel.wait_for_input(in.fd)) cancel.check();
    const size_t before = out.size();
    out.resize(before + piece);
    const ssize_t n = ::read(in.fd, out.data() + before, piece);
    const int error = errno;
    out.resize(before + static_cast<size_t>(n > 0 ? n : 0));
    if (n < 0 && (error == EINTR || error == EAGAIN)) {
      cancel.check();
      continue;
    }
    if (n < 0) fail(ErrorKind::kIo, "{}: cannot read: {}", path, std::strerror(error));
    if (n == 0) return whole();
    total += static_cast<uint64_t>(n);
    // A device of NULs has no end: it is refused long before the most that a text may have.
    const std::string& first = full.empty() ? out : full.front();
    if (!regular && total > kLong && !Gunzip::is_gzip(first) &&
        out.find('\0', before) != out.npos) {
      check_text(out, path);
    }
    if (total > max_bytes)
      fail(ErrorKind::kCorrupt, "{}: more than {} bytes of text", path, max_bytes);
    piece = size_t{1} << 16;
    if (!regular && out.size() >= size_t{1} << 26) {
      full.emplace_back().swap(out);
    }
  }
}

void gunzip_all(const std::string& packed, const std::string& path, const CancelToken& cancel,
                FunctionRef<void(std::string_view)> take) {
  Gunzip unpacker(path);
  std::string piece;
  for (size_t done = 0; done < packed.size();) {
    const std::string_view part = std::string_view(packed).substr(done, size_t{1} << 30);
    done += part.size();
    unpacker.put(part);
    for (; unpacker.take(&piece); piece.clear()) {
      cancel.check();
      take(piece);
    }
  }
  unpacker.finish();
}

// Twice: a few bytes can unpack to any number, so they are counted before memory is taken for them.
std::string gunzip(const std::string& packed, const std::string& path, uint64_t max_bytes,
                   const CancelToken& cancel) {
  uint64_t size = 0;
  gunzip_all(packed, path, cancel, [&](std::string_view piece) {
    size += piece.size();
    if (size > max_bytes)
      fail(ErrorKind::kCorrupt, "{}: more than {} bytes of text when unpacked", path, max_bytes);
  });
  std::string out;
  out.reserve(size);
  gunzip_all(packed, path, cancel, [&](std::string_view piece) { out += piece; });
  return out;
}

// UTF-16 without a mark at its beginning: of Latin letters, every second byte is NUL.
bool looks_like_utf16(std::string_view text) {
  const std::string_view head = text.substr(0, 4096);
  size_t even = 0, odd = 0;
  for (size_t i = 0; i < head.size(); ++i) (i % 2 == 0 ? even : odd) += head[i] == '\0';
  return std::max(even, odd) > head.size() / 4 && std::min(even, odd) <= head.size() / 50;
}

}  // namespace

void check_text(const std::string& text, const std::string& path) {
  if (const FileMagic* magic = find_file_magic(text)) {
    const char* colon = *magic->remedy != '\0' ? "; " : "";
    fail(ErrorKind::kCorrupt, "{}: no text: {}{}{}", path, magic->what, colon, magic->remedy);
  }
  const std::string_view head = std::string_view(text).substr(0, 4);
  if (head == std::string_view("\xff\xfe\0\0", 4) || head == std::string_view("\0\0\xfe\xff", 4))
    fail(ErrorKind::kCorrupt, "{}: this is UTF-32; convert it: iconv -f UTF-32 -t UTF-8", path);
  if (head.starts_with("\xff\xfe") || head.starts_with("\xfe\xff"))
    fail(ErrorKind::kCorrupt, "{}: this is UTF-16; convert it: iconv -f UTF-16 -t UTF-8", path);
  if (const size_t nul = text.find('\0'); nul != std::string::npos) {
    if (looks_like_utf16(text)) {
      fail(ErrorKind::kCorrupt,
           "{}: this looks like UTF-16; convert it: iconv -f UTF-16{} -t UTF-8", path,
           nul % 2 == 0 ? "BE" : "LE");
    }
    fail(ErrorKind::kCorrupt, "{}: no text: byte {} is NUL", path, nul);
  }
  if (const size_t at = valid_utf8_prefix(text); at < text.size()) {
    if (is_incomplete_utf8(std::string_view(text).substr(at)))
      fail(ErrorKind::kCorrupt, "{}: the text ends within a character: was it cut?", path);
    fail(ErrorKind::kCorrupt,
         "{}: no UTF-8 text: byte 0x{:02x} at {}; if it is Latin-1, convert it: iconv -f LATIN1 "
         "-t UTF-8",
         path, static_cast<unsigned char>(text[at]), at);
  }
}

int open_text_input(const std::string& path) {
  // Not blocking: a named pipe without a writer is waited for where it is read.
  const int fd = path == "-" ? ::fcntl(0, F_DUPFD_CLOEXEC, 3)
                             : ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) fail(ErrorKind::kIo, "{}: cannot open: {}", path, std::strerror(errno));
  struct stat s;
  const char* const wrong = ::fstat(fd, &s) != 0 ? std::strerror(errno)
                            : S_ISDIR(s.st_mode) ? "is a folder"
                            : S_ISBLK(s.st_mode) ? "neither a file nor a pipe"
                                                 : nullptr;
  if (wrong == nullptr) return fd;
  ::close(fd);
  fail(ErrorKind::kIo, "{}: {}", path, wrong);
}

std::string read_text_input(const std::string& path, uint64_t max_bytes,
                            const CancelToken& cancel) {
  std::string text = read_all(path, max_bytes, cancel);
  if (Gunzip::is_gzip(text)) text = gunzip(text, path, max_bytes, cancel);
  check_text(text, path);
  if (text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);
  return text;
}

}  // namespace pith
