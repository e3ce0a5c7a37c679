// Names from untrusted files as they may stand in a message: control characters and invalid bytes
// escaped, long ones cut, quotes around.
#pragma once

#include <string>
#include <string_view>

namespace pith {

std::string printable(std::string_view text, size_t max_bytes = 100);

}  // namespace pith
