// What templates can call. Each lookup returns nullptr for a name that is not known.
#pragma once

#include <string_view>
#include <unordered_map>

#include "formats/jinja/interpreter.h"

namespace pith::jinja {

struct BuiltinFilter {
  Value (*apply)(Interpreter&, const Value& input, const ArgumentValues&);
  // Names with spaces between; after "/ " those that cannot be given by name; "*" for any.
  std::string_view parameters;
};
struct BuiltinTest {
  bool (*holds)(Interpreter&, const Value& input, const ArgumentValues&);
  std::string_view parameters;
};
using FilterTable = std::unordered_map<std::string_view, BuiltinFilter>;

const BuiltinFilter* find_filter(std::string_view name);
const BuiltinTest* find_test(std::string_view name);
const BuiltinFilter* find_function(std::string_view name);  // `input` is undefined
// The method of this name of the type of `object`; null where it has none.
const BuiltinFilter* find_method(const Value& object, std::string_view name);

// The tables that these are made of, by file.
const FilterTable& text_filters();
const FilterTable& number_filters();
const FilterTable& sequence_filters();
const FilterTable& html_filters();
const FilterTable& text_methods();

// ---- shared by more than one of the tables

inline const BuiltinFilter* find_in(const FilterTable& table, std::string_view name) {
  const auto it = table.find(name);
  return it == table.end() ? nullptr : &it->second;
}

Value cased(Interpreter&, const Text&, Case to);
Value split_text(Interpreter&, const Text&, const ArgumentValues&, bool from_right);
Value replace_text(Interpreter&, const Text&, const ArgumentValues&);
Value strip_text(Interpreter&, const Text&, const Value& chars, bool left, bool right);
// Pads to `width`; `side` -1, 0 or 1: padding on the left, on both sides, on the right.
Value pad_text(Interpreter&, const Text&, int64_t width, const Text& fill, int side);
Value join_values(Interpreter&, const Value& separator, const std::vector<Value>& items);
Value dict_items(Interpreter&, const Dict&, ListKind kind);
bool is_lower(std::string_view s);
bool is_upper(std::string_view s);

// Text that HTML takes as it is: markup as it stands, other text escaped.
Text escaped(Meter&, const Text&);
// The text of a value that is joined with others; escaped where one of those is markup.
TextPtr to_text_like(Interpreter&, const Value&, bool markup);

}  // namespace pith::jinja
