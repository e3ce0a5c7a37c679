// Arithmetic and slices as Python has them, on 64-bit integers: what does not fit is kCorrupt, as
// is division by zero.
#pragma once

#include <string_view>

#include "formats/jinja/value.h"

namespace pith::jinja {

Value negate(Meter& meter, const Value& v);
// op: + - * / // % ** ~
Value arithmetic(Meter& meter, std::string_view op, const Value& a, const Value& b);
// Undefined or none where the bound is open.
Value slice(Meter& meter, const Value& v, const Value& from, const Value& to, const Value& step);
Value concatenate(Meter& meter, const Text& a, const Text& b);

}  // namespace pith::jinja
