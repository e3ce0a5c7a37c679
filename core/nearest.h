// Names that are near to a mistyped one, for messages: "no method wnada: wanda?".
#pragma once

#include <string>
#include <vector>

namespace pith {

// The candidate nearest to `word`, without regard to case; "" where none is near.
std::string nearest(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace pith
