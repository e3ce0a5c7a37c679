// First words of documents of many kinds, for a model to go on from when it writes its own
// calibration text: prose, letters, dialogue, manuals, lists, tables, source code, data, and other
// languages; and messages of users, for models that answer them. Written for pith.
#pragma once

#include <span>

namespace pith {

std::span<const char* const> text_openings();
std::span<const char* const> user_openings();

}  // namespace pith
