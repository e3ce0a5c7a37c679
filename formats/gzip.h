// gzip, unpacked piece by piece.
#pragma once

#include <zlib.h>

#include <string>
#include <string_view>

namespace pith {

class Gunzip {
 public:
  explicit Gunzip(const std::string& path);  // for messages
  ~Gunzip();
  Gunzip(const Gunzip&) = delete;
  Gunzip& operator=(const Gunzip&) = delete;

  static bool is_gzip(std::string_view first) { return first.starts_with("\x1f\x8b"); }

  // Compressed bytes to unpack next, at most 1 GiB; they stay there until take() has all of them.
  void put(std::string_view packed);
  // Appends at most 64 KiB of what was put; false where all of it is unpacked. Error(kCorrupt) for
  // broken data. Members follow each other as one text.
  bool take(std::string* to);
  // At the end of the data: Error(kCorrupt) within a member.
  void finish() const;

 private:
  const std::string path_;
  z_stream z_{};
  bool whole_ = false;
};

}  // namespace pith
