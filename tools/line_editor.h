// Reads lines of standard input. On a terminal libedit edits them, with a history in
// $XDG_STATE_HOME/pith/history (by default ~/.local/state); a pasted text of several lines is one
// line with \n in it. Lines of a pipe or file end in \n or \r\n.
#pragma once

#include <memory>
#include <string>

namespace pith::tools {

class LineEditor {
 public:
  enum class Event {
    kLine,
    kEnd,          // Ctrl-D, end of the input
    kInterrupted,  // by a signal; the typed text is in *line
    kTooLong,      // more than kMaxLine; it was read to its end and dropped
  };
  static constexpr size_t kMaxLine = size_t{4} << 20;

  LineEditor();
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  bool is_terminal() const { return editor_ != nullptr; }
  // Error(kIo) where standard input cannot be read.
  Event read(const std::string& prompt, std::string* line);

 private:
  class Editor;  // libedit
  Event read_pipe(std::string* line);

  std::unique_ptr<Editor> editor_;
  std::string buffer_;  // read ahead from a pipe
  size_t at_ = 0;
  bool ended_ = false;
};

// The file of the history; "" where there is no home.
std::string history_path();

}  // namespace pith::tools
