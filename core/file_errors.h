// System calls on files with errors that name the path, for the parts of core/file.h.
#pragma once

#include <string>

namespace pith {

// Error(kNoSpace) where a disk or a quota is full, else kIo: "PATH: cannot ACTION: REASON".
[[noreturn]] void fail_io(int error, const std::string& path, const char* action);

// open(2) with O_CLOEXEC, again where it was interrupted. `named`: the path for messages.
int open_retrying(const std::string& path, int flags, const char* action, const std::string& named);
int open_retrying(const std::string& path, int flags, const char* action);

}  // namespace pith
