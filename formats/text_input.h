// Text that a user names: a regular file, a pipe, "-" (standard input), /dev/stdin, a named pipe or
// a process substitution; gzip is recognised by content and unpacked.
#pragma once

#include <cstdint>
#include <string>

namespace pith {

// The whole text, as it is. Error(kIo) where it cannot be read or is a folder, socket or terminal;
// Error(kCorrupt) where it has more than `max_bytes` (unpacked), or where it is no UTF-8 text: it
// is UTF-16, has NUL bytes, or has an invalid sequence, whose place the message names with a
// remedy.
std::string read_text_input(const std::string& path, uint64_t max_bytes);

}  // namespace pith
