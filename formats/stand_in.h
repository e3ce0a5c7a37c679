// Detects placeholders of model files that were never downloaded: a pointer of Git LFS or Xet, the
// page that a web server sent instead, an empty file. Parsers would report a broken header.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace pith {

// Error(kCorrupt) that says so and what to do. `first`: the first bytes of the file, some hundred
// where it has as many.
void refuse_stand_in(std::string_view first, const std::string& path);

// Reads a text file of a model, and refuses a placeholder.
std::string read_model_text(const std::string& path, uint64_t max_bytes);

}  // namespace pith
