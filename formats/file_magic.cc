#include "formats/file_magic.h"

namespace pith {
namespace {

constexpr const char* kPull = R"(fetch it with "git lfs install" and "git lfs pull" in its folder)";

constexpr FileMagic kTable[] = {
    {"\x1f\x8b\x08", FileKind::kCompressed, "compressed by gzip", "unpack it: gzip -d"},
    {"\x28\xb5\x2f\xfd", FileKind::kCompressed, "compressed by zstd", "unpack it: zstd -d"},
    {"\xfd\x37zXZ", FileKind::kCompressed, "compressed by xz", "unpack it: xz -d"},
    {"BZh9", FileKind::kCompressed, "compressed by bzip2", "unpack it: bzip2 -d"},
    {"version https://git-lfs.github.com/", FileKind::kPointer,
     "a Git LFS pointer, not the file itself", kPull},
    {"version https://hawser.github.com/", FileKind::kPointer,
     "a Git LFS pointer, not the file itself", kPull},
    {"# xet version ", FileKind::kPointer, "a Xet pointer, not the file itself",
     R"(fetch it with "git xet" or download it again)"},
    {"PK\x03\x04", FileKind::kPackage, "a ZIP archive", "unpack it"},
    {"PAR1", FileKind::kPackage, "a Parquet file", "export it as text or JSON lines"},
    {"%PDF-", FileKind::kPackage, "a PDF", "export it as text"},
    {"GGUF", FileKind::kModel, "a GGUF model", ""},
};

}  // namespace

const FileMagic* find_file_magic(std::string_view first) {
  for (const FileMagic& row : kTable) {
    if (first.starts_with(row.magic)) return &row;
  }
  return nullptr;
}

}  // namespace pith
