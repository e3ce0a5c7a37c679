// Text that a user names: a regular file, a pipe, "-" (standard input), /dev/stdin, a named pipe or
// a process substitution; gzip is recognised by content and unpacked.
#pragma once

#include <cstdint>
#include <string>

#include "core/cancel.h"

namespace pith {

// The whole text, as it is, without a UTF-8 mark at its beginning. Waits for a named pipe's writer;
// `cancel` ends that. Error(kIo) where it cannot be read or is a folder or a block device;
// Error(kCorrupt) where it has more than `max_bytes` (unpacked), or where it is no UTF-8 text: it
// is UTF-16 or UTF-32, has NUL bytes, is a file of a kind that people take for text (an archive, a
// model, a Git LFS pointer), or has an invalid sequence, whose place the message names with a
// remedy.
std::string read_text_input(const std::string& path, uint64_t max_bytes,
                            const CancelToken& cancel = CancelToken::never());

// Its parts. A descriptor of the caller's, which does not block; Error(kIo) for folders and block
// devices.
int open_text_input(const std::string& path);
// Error(kCorrupt) where it is no UTF-8 text.
void check_text(const std::string& text, const std::string& path);

}  // namespace pith
