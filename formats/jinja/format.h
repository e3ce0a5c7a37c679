// Python's two ways to format: "%-5s" % values (printf-style String Formatting) and
// "{:>5}".format(values) (Format Specification Mini-Language). Widths and precisions cost fuel in
// proportion to their output. Characters made from numbers (%c) count as content, whatever the
// origin of the number.
#pragma once

#include <string>
#include <string_view>

#include "formats/jinja/interpreter.h"

namespace pith::jinja {

Value format_percent(Interpreter& in, const Text& format, const Value& values);
// Fields by name are looked up in `mapping` where it is not null (str.format_map).
Value format_braces(Interpreter& in, const Text& format, const ArgumentValues& args,
                    const Value* mapping = nullptr);

}  // namespace pith::jinja
