// The syntax tree of a template. Chains such as a + b + c lean to the left; their height is limited
// by the parser, so that walking and destroying a tree needs little stack.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "formats/jinja/value.h"

namespace pith::jinja {

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct Arguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
};

struct Literal {
  Value value;
};
struct Name {
  std::string name;
};
struct ListLiteral {
  std::vector<ExprPtr> items;
  bool tuple = false;
};
struct DictLiteral {
  std::vector<std::pair<ExprPtr, ExprPtr>> entries;
};
struct Unary {  // "-", "+", "not"
  std::string op;
  ExprPtr operand;
};
struct Binary {  // arithmetic, "~", "and", "or"
  std::string op;
  ExprPtr left, right;
};
struct Compare {  // a < b < c; also "in" and "not in"
  ExprPtr first;
  std::vector<std::pair<std::string, ExprPtr>> rest;
};
struct Conditional {
  ExprPtr condition, then, otherwise;  // otherwise may be null: undefined
};
struct Attribute {
  ExprPtr object;
  std::string name;
};
struct Index {
  ExprPtr object, key;
};
struct Slice {
  ExprPtr object, from, to, step;  // each but object may be null
};
struct Call {
  ExprPtr callee;
  Arguments arguments;
};
struct Filter {
  ExprPtr input;
  std::string name;
  Arguments arguments;
};
struct Test {
  ExprPtr input;
  std::string name;
  Arguments arguments;
  bool negated = false;
};

struct Expr {
  std::variant<Literal, Name, ListLiteral, DictLiteral, Unary, Binary, Compare, Conditional,
               Attribute, Index, Slice, Call, Filter, Test>
      node;
  int line = 1;
  int height = 1;
};

struct Stmt;
using Body = std::vector<Stmt>;

struct Data {
  std::string text;
};
struct Print {
  ExprPtr value;
};
struct Branch {
  ExprPtr condition;
  Body body;
};
struct If {
  std::vector<Branch> branches;
  Body otherwise;
};
struct For {
  std::vector<std::string> targets;  // more than one unpacks
  ExprPtr sequence, filter;          // filter may be null
  Body body, otherwise;
};
struct Set {
  std::string object;  // of `set ns.name = ...`, else empty
  std::vector<std::string> names;
  ExprPtr value;  // null: the body's text is the value
  Body body;
};
struct Macro {
  std::string name;
  std::vector<std::pair<std::string, ExprPtr>> parameters;  // default or null
  Body body;
};
struct MacroDefinition {
  std::unique_ptr<Macro> macro;
};
struct CallBlock {
  ExprPtr call;
  Body body;
};
struct Scope {  // a generation block
  Body body;
};
struct Break {};
struct Continue {};

struct Stmt {
  std::variant<Data, Print, If, For, Set, MacroDefinition, CallBlock, Scope, Break, Continue> node;
  int line = 1;
};

}  // namespace pith::jinja
