// The text of pith --help and pith COMMAND --help, made from the options that CLI11 knows.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace pith::tools {

// Required options come first, then the others in their groups, in the order in which they were
// added; defaults are shown. No line is longer than `width`, except for longer words.
std::string help_text(const CLI::App& command, int width);

// Text cut at word ends: lines of at most `width` columns, all but the first indented by `indent`.
std::string wrapped(const std::string& text, size_t indent, size_t width);

// "pith 0.1.0 (commit ...)", compiler, instruction level, CUDA.
std::string version_text();
extern const char* const kVersion;  // "0.1.0"
extern const char* const kCommit;   // "unknown" where the sources came without git

}  // namespace pith::tools
