// Tokens to syntax tree, with the precedences of Jinja 3: conditional, or, and, not, comparison, +
// -, ~, * / // %,
// **, sign, then postfix, filters and tests. Error(kCorrupt) for syntax and too deep nesting,
// kUnsupported for tags and forms of Jinja that chat templates do not use.
#pragma once

#include <string_view>

#include "formats/jinja/ast.h"

namespace pith::jinja {

Body parse(std::string_view source);

}  // namespace pith::jinja
