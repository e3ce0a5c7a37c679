#include "formats/stand_in.h"

#include <algorithm>

#include "core/error.h"
#include "core/file.h"
#include "formats/file_magic.h"

namespace pith {
namespace {

// In small letters, behind blanks.
std::string beginning(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n\xef\xbb\xbf"), text.size()));
  std::string out(text.substr(0, 64));
  std::ranges::transform(out, out.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return out;
}

}  // namespace

void refuse_stand_in(std::string_view first, const std::string& path) {
  const auto refuse = [&](const char* what) { fail(ErrorKind::kCorrupt, "{}: {}", path, what); };
  if (first.empty()) refuse("the file is empty: its download did not finish");
  const FileMagic* magic = find_file_magic(first);
  if (magic && (magic->kind == FileKind::kPointer || magic->kind == FileKind::kCompressed))
    fail(ErrorKind::kCorrupt, "{}: is {}; {}", path, magic->what, magic->remedy);
  const std::string text = beginning(first);
  for (const char* page :
       {"<!doctype", "<html", "<?xml", "<head", "entry not found", "repository not found",
        "invalid username or password", "access to model ", "404: not found"}) {
    if (text.starts_with(page))
      refuse(
          "is a page that a web server sent in place of the file; download it again (a model may "
          "ask for a login)");
  }
}

std::string read_model_text(const std::string& path, uint64_t max_bytes) {
  std::string text = read_text_file(path, max_bytes);
  refuse_stand_in(std::string_view(text).substr(0, 512), path);
  return text;
}

}  // namespace pith
