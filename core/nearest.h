// What a mistyped word was meant to be.
#pragma once

#include <string>
#include <vector>

namespace pith {

// The candidate nearest to `word`; "" where none is near.
std::string nearest(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace pith
