// The rank files of tiktoken: a line is a byte string in base64, a blank and its rank, which is its
// id.
#pragma once

#include <string_view>

namespace pith {

bool looks_like_tiktoken(std::string_view file);

}  // namespace pith
