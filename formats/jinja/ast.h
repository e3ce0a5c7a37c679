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
  ExprPtr more_positional, more_named;  // *list and **dict, or null
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
struct BlockText {};  // the text of the block that a filter of `filter` or `set` is applied to

struct Expr {
  std::variant<Literal, Name, ListLiteral, DictLiteral, Unary, Binary, Compare, Conditional,
               Attribute, Index, Slice, Call, Filter, Test, BlockText>
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
// A loop or `set` binds a target: a name, a member of a namespace, or a tuple of targets.
struct Target {
  std::string object, name;  // object.name, where object is not empty
  std::vector<Target> parts;
  bool tuple = false;
};
struct For {
  Target target;
  ExprPtr sequence, filter;  // filter may be null
  Body body, otherwise;
  bool recursive = false;
};
struct Set {
  Target target;
  ExprPtr value;  // null, or filters over the body's text, where the body's text is the value
  bool block = false;
  Body body;
};
struct Macro {
  std::string name;
  std::vector<std::pair<std::string, ExprPtr>> parameters;  // default or null
  Body body;
  bool uses_caller = false, uses_varargs = false, uses_kwargs = false;
};
struct MacroDefinition {
  std::unique_ptr<Macro> macro;
};
struct CallBlock {
  ExprPtr call;
  std::unique_ptr<Macro> body;  // what caller() calls
};
struct Scope {  // a generation block
  Body body;
};
struct With {
  std::vector<std::pair<Target, ExprPtr>> variables;
  Body body;
};
struct FilterBlock {
  ExprPtr value;  // over BlockText
  Body body;
};
struct Autoescape {
  ExprPtr on;
  Body body;
};
struct Block {
  std::string name;
  Body body;
  bool scoped = false;
};
struct BlockDefinition {
  std::unique_ptr<Block> block;
};
struct Refused {  // a tag that needs other templates
  std::string tag;
};
struct Break {};
struct Continue {};

struct Stmt {
  std::variant<Data, Print, If, For, Set, MacroDefinition, CallBlock, Scope, With, FilterBlock,
               Autoescape, BlockDefinition, Refused, Break, Continue>
      node;
  int line = 1;
};

struct Program {
  Body body;
  std::vector<const Block*> blocks;
};

}  // namespace pith::jinja
