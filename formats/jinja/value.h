// The values of a template: what JSON has, and namespaces, loops and callables. Lists and dicts
// never change once made, so that they hold no cycles and stay at most 64 deep (checked as they are
// made); namespaces change, and live in the interpreter. What walks through values takes a meter,
// since sharing makes small values look huge.
#pragma once

#include <array>
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
struct Block;
struct For;
struct Cycler;
struct BuiltinFilter;

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
                           Namespace*, LoopPtr, CallablePtr, Cycler*>;

// The Python type that a list stands for: they differ in printing, equality and operations.
enum class ListKind : char {
  kList,
  kTuple,
  kGroup,      // of `groupby`: a tuple with the names `grouper` and `list`
  kRange,      // `bounds` has its start, stop and step
  kGenerator,  // of `map`, `select`, ...: can be gone through once, is always true
  kKeys,       // of dict.keys(), values() and items()
  kValues,
  kItems
};

struct List {
  std::vector<Value> items;
  int depth = 1;
  ListKind kind = ListKind::kList;
  std::array<int64_t, 3> bounds = {};
  std::shared_ptr<size_t> taken = nullptr;  // of a generator: items that are gone
};

struct Dict {
  std::vector<std::pair<Value, Value>> entries;  // in the order of insertion
  int depth = 1;
};

struct Namespace {
  std::map<std::string, Value, std::less<>> members;
};

// A scope of the interpreter: its place, and its number, which tells whether it is still the same.
struct ScopeRef {
  size_t place = 0;
  uint64_t serial = 0;
};

struct Loop {
  ListPtr items;
  int64_t index0 = 0;
  int64_t depth0 = 0;
  uint64_t id = 0;
  const For* node = nullptr;  // of a recursive loop
  ScopeRef around;
};

// cycler() and joiner(); lives in the interpreter.
struct Cycler {
  std::vector<Value> items;
  size_t at = 0;
  bool joiner = false;
};

struct Callable {
  enum Kind { kBuiltin, kMacro, kBlock, kSelf };
  Kind kind = kBuiltin;
  std::string name;
  const BuiltinFilter* builtin = nullptr;
  Value self = Undefined{};  // of a method
  const Macro* macro = nullptr;
  const Block* block = nullptr;
  ScopeRef scope;           // that a macro was defined in
  bool autoescape = false;  // whether a macro's body is escaped
  int depth = 1;
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
bool is_integral(const Value& v);  // bool and int
int64_t to_int(const Value& integral);
bool is_tuple(const Value& v);
bool is_hashable(const Value& v);  // what keys of dicts can be, as Python hashes them
bool is_indexed(const Value& v);   // list, tuple or range
double to_double(const Value& number);

Value make_text(Meter& meter, Text text);
Value make_text(Meter& meter, std::string_view bytes, Origin origin = Origin::kTemplate);
Value make_list(Meter& meter, std::vector<Value> items, ListKind kind = ListKind::kList);
Value make_range(Meter& meter, int64_t start, int64_t stop, int64_t step);
Value make_method(Meter& meter, const Value& self, std::string name, const BuiltinFilter* builtin);
// Later entries replace earlier ones of the same key.
Value make_dict(Meter& meter, std::vector<std::pair<Value, Value>> entries);
Value from_json(Meter& meter, const Json& json, Origin strings);

std::string type_name(const Value& v);  // as Python calls it
const char* kind_name(ListKind kind);
bool truth(const Value& v);
bool equal(Meter& meter, const Value& a, const Value& b);
std::partial_ordering compare(Meter& meter, const Value& a, const Value& b);  // kCorrupt: no order
const Value* find_key(Meter& meter, const Dict& dict, const Value& key);
bool contains(Meter& meter, const Value& container, const Value& item);
// The elements of a list, keys of a dict, characters of a string; none of undefined. Empties a
// generator.
std::vector<Value> elements(Meter& meter, const Value& v);
int64_t length(Meter& meter, const Value& v);

}  // namespace pith::jinja
