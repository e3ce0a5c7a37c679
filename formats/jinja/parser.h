// Tokens to syntax tree, with the precedences of Jinja 3: conditional, or, and, not, comparison, +
// -, ~, * / // %, **, sign, then postfix, filters and tests. Error(kCorrupt) for syntax and too
// deep nesting, kUnsupported for tags that transformers' Jinja does not have. Tags that need other
// templates (include, import, from, extends) are refused where they are reached, as there.
#pragma once

#include <string_view>

#include "formats/jinja/ast.h"

namespace pith::jinja {

Program parse(std::string_view source);

}  // namespace pith::jinja
