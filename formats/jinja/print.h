// Values as text: as {{ }} prints them (Python's str and repr) and as JSON (Python's json.dumps
// with ensure_ascii off, which is what transformers uses for tojson). A string prints with the
// origins of its bytes; the rest is the template's where it holds no content at all, and content
// otherwise.
#pragma once

#include <optional>
#include <string>

#include "formats/jinja/value.h"

namespace pith::jinja {

struct JsonStyle {
  std::optional<std::string> indent;  // of one level; none for all in one line
  std::string item_separator = ", ", key_separator = ": ";
  bool ensure_ascii = false, sort_keys = false;
  Origin origin = Origin::kTemplate;  // of the separators and the indentation
};

TextPtr to_text(Meter& meter, const Value& v);
TextPtr to_repr(Meter& meter, const Value& v, bool ascii = false);
Value to_json(Meter& meter, const Value& v, const JsonStyle& style);
std::string print_double(double number);  // the shortest that reads back, as Python's repr

}  // namespace pith::jinja
