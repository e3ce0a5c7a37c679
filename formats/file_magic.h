// Kinds of files that are put in the place of a text or of a model's file by mistake, by their
// first bytes.
#pragma once

#include <string_view>

namespace pith {

enum class FileKind {
  kCompressed,
  kPointer,  // of Git LFS or Xet: the file itself was never downloaded
  kPackage,  // a document, a table or an archive
  kModel,
};

struct FileMagic {
  std::string_view magic;
  FileKind kind;
  const char* what;    // "a ZIP archive"
  const char* remedy;  // "unpack it"; may be empty
};

// The row whose magic the bytes begin with, or null.
const FileMagic* find_file_magic(std::string_view first);

}  // namespace pith
