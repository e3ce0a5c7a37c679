#include "formats/gzip.h"

#include "core/error.h"

namespace pith {

Gunzip::Gunzip(const std::string& path) : path_(path) {
  if (::inflateInit2(&z_, 15 + 16) != Z_OK) fail(ErrorKind::kMemory, "{}: cannot unpack", path);
}
Gunzip::~Gunzip() { ::inflateEnd(&z_); }

void Gunzip::put(std::string_view packed) {
  z_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  z_.avail_in = static_cast<uInt>(packed.size());
}

bool Gunzip::take(std::string* to) {
  constexpr size_t kPiece = 64 << 10;
  if (z_.avail_in > 0 && whole_) {  // the next member
    ::inflateReset(&z_);
    whole_ = false;
  }
  const size_t before = to->size();
  to->resize(before + kPiece);
  z_.next_out = reinterpret_cast<Bytef*>(to->data() + before);
  z_.avail_out = kPiece;
  const int status = ::inflate(&z_, Z_NO_FLUSH);
  to->resize(before + kPiece - z_.avail_out);
  whole_ = whole_ || status == Z_STREAM_END;
  if (status != Z_OK && status != Z_BUF_ERROR && status != Z_STREAM_END)
    fail(ErrorKind::kCorrupt, "{}: broken gzip data: {}", path_, z_.msg ? z_.msg : "unknown");
  return to->size() > before || (z_.avail_in > 0 && status != Z_BUF_ERROR);
}

void Gunzip::finish() const {
  if (!whole_) fail(ErrorKind::kCorrupt, "{}: the gzip data end too early", path_);
}

}  // namespace pith
