#include "tools/line_editor.h"

#include <histedit.h>
#include <langinfo.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "core/file.h"
#include "core/utf8.h"
#include "tools/interrupt.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

constexpr char kPasteBegin[] = "\033[200~", kPasteEnd[] = "\033[201~";
constexpr char kBrokenLine[] = "\u23ce";  // how the end of a pasted line is shown

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
}

// One byte of standard input: 1, 0 at its end, -1 for a signal or an error.
int read_byte(char* to) {
  for (;;) {
    if (!interrupt().wait_for_input(0)) {
      errno = EINTR;
      return -1;
    }
    const ssize_t n = ::read(0, to, 1);
    if (n >= 0) return static_cast<int>(n);
    if (errno != EINTR && errno != EAGAIN) return -1;
  }
}

// libedit's own reader, but for signals: a whole UTF-8 character.
int read_character(EditLine*, wchar_t* to) {
  std::string bytes;
  do {
    char c = 0;
    const int n = read_byte(&c);
    if (n <= 0) return n;
    bytes += c;
  } while (is_incomplete_utf8(bytes) && bytes.size() < 4);
  size_t at = 0;
  *to = static_cast<wchar_t>(next_code_point(bytes, at));
  return 1;
}

void make_folders(const std::string& path) {
  for (size_t at = 1; (at = path.find('/', at)) != std::string::npos; ++at)
    ::mkdir(path.substr(0, at).c_str(), 0700);
}

}  // namespace

std::string history_path() {
  const char *state = std::getenv("XDG_STATE_HOME"), *home = std::getenv("HOME");
  if (state != nullptr && *state == '/') return join_path(state, "pith/history");
  if (home != nullptr && *home == '/') return join_path(home, ".local/state/pith/history");
  return "";
}

class LineEditor::Editor {
 public:
  Editor()
      : out_(pith::tools::is_terminal(1) ? 1 : 2),
        in_stream_(::fdopen(::dup(0), "r")),
        out_stream_(::fdopen(::dup(out_), "w")) {
    if (in_stream_ == nullptr || out_stream_ == nullptr)
      fail(ErrorKind::kIo, "cannot open the terminal: {}", std::strerror(errno));
    std::setlocale(LC_CTYPE, "");
    if (std::strcmp(::nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");
    edit_ = ::el_init("pith", in_stream_, out_stream_, out_stream_);
    history_ = ::history_init();
    if (edit_ == nullptr || history_ == nullptr) fail(ErrorKind::kMemory, "out of memory");
    ::el_set(edit_, EL_CLIENTDATA, this);
    ::el_set(edit_, EL_EDITOR, "emacs");
    ::el_set(edit_, EL_PROMPT_ESC, &Editor::prompt_of, '\1');
    ::el_set(edit_, EL_GETCFN, &read_character);
    ::el_set(edit_, EL_ADDFN, "pith-paste", "take a pasted text", &Editor::paste);
    ::el_set(edit_, EL_BIND, kPasteBegin, "pith-paste", nullptr);
    ::el_set(edit_, EL_BIND, "\033[A", "ed-prev-history", nullptr);
    ::el_set(edit_, EL_BIND, "\033[B", "ed-next-history", nullptr);
    ::el_set(edit_, EL_BIND, "^R", "em-inc-search-prev", nullptr);
    HistEvent event;
    ::history(history_, &event, H_SETSIZE, 1000);
    ::history(history_, &event, H_SETUNIQUE, 1);
    ::el_set(edit_, EL_HIST, ::history, history_);
    path_ = history_path();
    // Opening a named pipe would wait for its other end.
    if (file_exists(path_) && !is_regular_file(path_)) path_.clear();
    if (file_exists(path_)) ::history(history_, &event, H_LOAD, path_.c_str());
    ::el_source(edit_, nullptr);
  }
  ~Editor() {
    if (edit_ != nullptr) ::el_end(edit_);
    if (history_ != nullptr) ::history_end(history_);
    if (in_stream_ != nullptr) std::fclose(in_stream_);
    if (out_stream_ != nullptr) std::fclose(out_stream_);
  }
  Editor(const Editor&) = delete;
  Editor& operator=(const Editor&) = delete;

  Event read(const std::string& prompt, std::string* line) {
    flush_out();
    const bool colours = shows_colours(out_);
    prompt_ = colours ? "\1\033[1;32m\1" + prompt + "\1\033[0;32m\1" : prompt;
    too_long_ = false;
    ::el_resize(edit_);
    // Before the prompt is shown: Ctrl-D in cooked mode would be lost when raw mode begins.
    ::el_set(edit_, EL_PREP_TERM, 1);
    put("\033[?2004h");  // the terminal marks what is pasted
    int count = 0;
    const char* text = ::el_gets(edit_, &count);
    const int error = errno;
    put(colours ? "\033[0m\033[?2004l" : "\033[?2004l");
    line->clear();
    if (interrupt().cancelled()) {
      const LineInfo* info = ::el_line(edit_);
      line->assign(info->buffer, info->lastchar);
      ::el_reset(edit_);
      put("\n");
      return Event::kInterrupted;
    }
    if (text == nullptr && count < 0 && error != 0 && error != EINTR)
      fail(ErrorKind::kIo, "cannot read the terminal: {}", std::strerror(error));
    if (text == nullptr || count <= 0) {
      put("\n");  // what follows begins on a line of its own
      return Event::kEnd;
    }
    line->assign(text, static_cast<size_t>(count));
    while (!line->empty() && (line->back() == '\n' || line->back() == '\r')) line->pop_back();
    if (too_long_ || line->size() > kMaxLine) return Event::kTooLong;
    remember(*line);
    replace_all(*line, kBrokenLine, "\n");
    return Event::kLine;
  }

 private:
  static char* prompt_of(EditLine* edit) {
    Editor* self = nullptr;
    ::el_get(edit, EL_CLIENTDATA, &self);
    return self->prompt_.data();
  }

  // The text between the marks of a bracketed paste becomes part of the line, with line ends shown
  // as symbols.
  static unsigned char paste(EditLine* edit, int) {
    Editor* self = nullptr;
    ::el_get(edit, EL_CLIENTDATA, &self);
    std::string text;
    bool too_long = false;
    for (char c = 0; !text.ends_with(kPasteEnd);) {
      if (read_byte(&c) != 1) return CC_EOF;
      text += c;
      if (text.size() > kMaxLine) {
        text.erase(0, text.size() / 2);
        too_long = true;
      }
    }
    text.resize(text.size() - std::strlen(kPasteEnd));
    replace_all(text, "\r\n", "\n");
    replace_all(text, "\r", "\n");
    while (text.ends_with("\n")) text.pop_back();
    replace_all(text, "\n", kBrokenLine);
    replace_all(text, "\t", "    ");
    self->too_long_ = self->too_long_ || too_long;
    if (too_long || ::el_insertstr(edit, escaped(text).c_str()) != 0) return CC_REFRESH_BEEP;
    return CC_REFRESH;
  }

  // Saved at once, so that a killed program loses nothing.
  void remember(const std::string& line) {
    if (line.find_first_not_of(' ') == std::string::npos) return;
    HistEvent event;
    ::history(history_, &event, H_ENTER, line.c_str());
    if (path_.empty()) return;
    make_folders(path_);
    ::history(history_, &event, H_SAVE, path_.c_str());
  }

  void put(const char* text) {
    std::fputs(text, out_stream_);
    std::fflush(out_stream_);
  }

  int out_;
  FILE *in_stream_, *out_stream_;
  EditLine* edit_ = nullptr;
  History* history_ = nullptr;
  std::string prompt_, path_;
  bool too_long_ = false;
};

LineEditor::LineEditor() {
  // Both ends must be terminals: the keys, and somewhere to show them.
  if (pith::tools::is_terminal(0) && (pith::tools::is_terminal(1) || pith::tools::is_terminal(2)))
    editor_ = std::make_unique<Editor>();
}
LineEditor::~LineEditor() = default;

LineEditor::Event LineEditor::read(const std::string& prompt, std::string* line) {
  return editor_ ? editor_->read(prompt, line) : read_pipe(line);
}

LineEditor::Event LineEditor::read_pipe(std::string* line) {
  line->clear();
  flush_out();
  bool too_long = false;
  for (size_t dropped = 0;;) {
    const size_t end = buffer_.find('\n', at_);
    const size_t stop = std::min(end, buffer_.size());
    too_long = too_long || line->size() + (stop - at_) > kMaxLine;
    if (too_long)
      dropped += stop - at_;
    else
      line->append(buffer_, at_, stop - at_);
    if (dropped > 16 * kMaxLine)
      fail(ErrorKind::kCorrupt, "standard input: more than {} bytes without a line end", dropped);
    at_ = stop + (end != std::string::npos ? 1 : 0);
    const bool last = ended_ && end == std::string::npos;
    if (end != std::string::npos || last) {
      if (last && line->empty() && !too_long) return Event::kEnd;
      if (line->ends_with("\r")) line->pop_back();
      return too_long ? Event::kTooLong : Event::kLine;
    }
    if (!interrupt().wait_for_input(0)) return Event::kInterrupted;
    buffer_.resize(size_t{1} << 16);
    at_ = 0;
    const ssize_t n = ::read(0, buffer_.data(), buffer_.size());
    const int error = errno;
    buffer_.resize(static_cast<size_t>(std::max<ssize_t>(0, n)));
    if (n < 0 && error != EINTR && error != EAGAIN)
      fail(ErrorKind::kIo, "cannot read standard input: {}", std::strerror(error));
    ended_ = n == 0;
  }
}

}  // namespace pith::tools
