// What templates can call. Each lookup returns nullptr for a name that is not known.
#pragma once

#include <string_view>

#include "formats/jinja/interpreter.h"

namespace pith::jinja {

struct BuiltinFilter {
  Value (*apply)(Interpreter&, const Value& input, const ArgumentValues&);
  std::string_view parameters;  // names with spaces between, "*" for any
};
struct BuiltinTest {
  bool (*holds)(Interpreter&, const Value& input, const ArgumentValues&);
  std::string_view parameters;
};

const BuiltinFilter* find_filter(std::string_view name);
const BuiltinTest* find_test(std::string_view name);
const BuiltinFilter* find_text_method(std::string_view name);
const BuiltinFilter* find_dict_method(std::string_view name);
const BuiltinFilter* find_function(std::string_view name);  // `input` is undefined

// Also used by more than one of the tables.
Value split_text(Interpreter&, const Text&, const ArgumentValues&, bool from_right);
Value replace_text(Interpreter&, const Text&, const ArgumentValues&);
Value join_values(Interpreter&, const Value& separator, const std::vector<Value>& items);
Value dict_items(Interpreter&, const Dict&);

}  // namespace pith::jinja
