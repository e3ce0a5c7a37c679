// The values of a template: what JSON has, and namespaces, loops and callables. Lists and dicts
// never change once made, so that they hold no cycles and stay at most 64 deep (checked as they are
// made); namespaces change, and live in the interpreter. What walks through values takes a meter,
// since sharing makes small values look huge.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/json.h"
#include "formats/jinja/meter.h"
#include "formats/jinja/text.h"

namespace pith::jinja {

struct List;
struct Dict;
struct Namespace;
struct Loop;
struct Callable;
struct Macro;

struct Undefined {
  const std::string* name = nullptr;  // for messages; in the syntax tree
};
struct None {};
using TextPtr = std::shared_ptr<const Text>;
using ListPtr = std::shared_ptr<const List>;
using DictPtr = std::shared_ptr<const Dict>;
using LoopPtr = std::shared_ptr<const Loop>;
using CallablePtr = std::shared_ptr<const Callable>;
using Value = std::variant<Undefined, None, bool, int64_t, double, TextPtr, ListPtr, DictPtr,
                           Namespace*, LoopPtr, CallablePtr>;

struct List {
  std::vector<Value> items;
  int depth = 1;
  bool tuple = false;  // prints differently, and equals no list
};

struct Dict {
  std::vector<std::pair<Value, Value>> entries;  // in the order of insertion
  int depth = 1;
};

struct Namespace {
  std::map<std::string, Value, std::less<>> members;
};

struct Loop {
  ListPtr items;
  int64_t index0 = 0;
};

struct Callable {
  std::string name;
  const Macro* macro = nullptr;
  TextPtr caller;  // the rendered body of a call block
};

template <class T>
bool is(const Value& v) {
  return std::holds_alternative<T>(v);
}
inline bool is_undefined(const Value& v) { return is<Undefined>(v); }
// The text of a string value, nullptr of others.
const Text* as_text(const Value& v);
// bool, int and float.
bool is_number(const Value& v);
double to_double(const Value& number);

Value make_text(Meter& meter, Text text);
Value make_text(Meter& meter, std::string_view bytes, Origin origin = Origin::kTemplate);
Value make_list(Meter& meter, std::vector<Value> items, bool tuple = false);
// Later entries replace earlier ones of the same key.
Value make_dict(Meter& meter, std::vector<std::pair<Value, Value>> entries);
Value from_json(Meter& meter, const Json& json, Origin strings);

std::string type_name(const Value& v);  // as Python calls it
bool truth(const Value& v);
bool equal(Meter& meter, const Value& a, const Value& b);
std::partial_ordering compare(Meter& meter, const Value& a, const Value& b);  // kCorrupt: no order
const Value* find_key(Meter& meter, const Dict& dict, const Value& key);
bool contains(Meter& meter, const Value& container, const Value& item);
// The elements of a list, keys of a dict, characters of a string; none of undefined.
std::vector<Value> elements(Meter& meter, const Value& v);
int64_t length(Meter& meter, const Value& v);

}  // namespace pith::jinja
