// Lines of a text that arrives piece by piece: a pipe, a terminal, a device. Each is there as soon
// as its line end is, however long the next takes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/cancel.h"

namespace pith {

class Gunzip;

class TextLines {
 public:
  // "-" is standard input. Error(kIo) where it cannot be opened.
  TextLines(const std::string& path, uint64_t max_line,
            const CancelToken& cancel = CancelToken::never());
  ~TextLines();
  TextLines(const TextLines&) = delete;
  TextLines& operator=(const TextLines&) = delete;

  // The next line without its end (\n or \r\n); false at the end of the text. gzip is unpacked.
  // Error(kCorrupt) for what is no UTF-8 text, as read_text_input() says it, and for a line of more
  // than `max_line` bytes; a NUL is one at once, without a line end. Error(kCancelled) as
  // soon as that is asked for.
  bool next(std::string* line);

 private:
  bool read_more();

  const std::string path_;
  const uint64_t max_line_;
  const CancelToken& cancel_;
  int fd_ = -1;
  std::unique_ptr<Gunzip> unpacker_;
  std::string packed_;  // what it unpacks
  std::string text_;    // read, from at_ on not yet returned
  size_t at_ = 0;
  uint64_t bytes_ = 0;  // read in all
  bool begun_ = false, ended_ = false;
};

}  // namespace pith
