// Lines of at most so many characters, as Python's textwrap.wrap makes them of one paragraph with
// expand_tabs and replace_whitespace off. Linear in the text.
#pragma once

#include <cstdint>
#include <vector>

#include "formats/jinja/text.h"

namespace pith::jinja {

struct Wrapping {
  int64_t width = 79;  // at least 1
  bool break_long_words = true, break_on_hyphens = true;
};
std::vector<Text> wrap(const Text& paragraph, const Wrapping& how);

}  // namespace pith::jinja
