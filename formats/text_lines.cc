#include "formats/text_lines.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "formats/gzip.h"
#include "formats/text_input.h"

namespace pith {
namespace {

constexpr size_t kPiece = 64 << 10;

}  // namespace

TextLines::TextLines(const std::string& path, uint64_t max_line, const CancelToken& cancel)
    : path_(path), max_line_(max_line), cancel_(cancel), fd_(open_text_input(path)) {}
TextLines::~TextLines() { ::close(fd_); }

// false at the end.
bool TextLines::read_more() {
  text_.erase(0, at_);
  at_ = 0;
  if (unpacker_ && unpacker_->take(&text_)) return true;
  std::string piece(kPiece, '\0');
  for (;;) {
    if (!cancel_.wait_for_input(fd_)) cancel_.check();
    const ssize_t n = ::read(fd_, piece.data(), piece.size());
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n < 0) fail(ErrorKind::kIo, "{}: cannot read: {}", path_, std::strerror(errno));
    piece.resize(static_cast<size_t>(n));
    break;
  }
  bytes_ += piece.size();
  if (piece.empty()) {
    if (unpacker_) unpacker_->finish();
    return false;
  }
  if (!unpacker_ && bytes_ == piece.size() && Gunzip::is_gzip(piece))
    unpacker_ = std::make_unique<Gunzip>(path_);
  if (!unpacker_) {
    text_ += piece;
  } else {
    packed_ = std::move(piece);
    unpacker_->put(packed_);
  }
  return true;
}

bool TextLines::next(std::string* line) {
  for (size_t searched = at_;;) {
    const size_t end = text_.find('\n', searched);
    const size_t stop = std::min(end, text_.size()), length = stop - at_;
    if (text_.find('\0', searched) < stop) check_text(text_.substr(at_), path_);
    if (length > max_line_)
      fail(ErrorKind::kCorrupt, "{}: a line of more than {} bytes", path_, max_line_);
    if (end != text_.npos || (ended_ && length > 0)) {
      // Checked with its end, behind which no character goes on.
      line->assign(text_, at_, length + (end != text_.npos ? 1 : 0));
      at_ += line->size();
      check_text(*line, path_);
      line->resize(length);
      if (!begun_ && line->starts_with("\xef\xbb\xbf")) line->erase(0, 3);
      begun_ = true;
      if (line->ends_with("\r")) line->pop_back();
      return true;
    }
    if (ended_) return false;
    ended_ = !read_more();
    searched = length;
  }
}

}  // namespace pith
