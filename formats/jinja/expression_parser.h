// The expressions of a template; see parser.h.
#pragma once

#include <string>
#include <vector>

#include "formats/jinja/ast.h"
#include "formats/jinja/token_stream.h"

namespace pith::jinja {

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  ExprPtr expression();           // with the conditional form
  ExprPtr expression_or_tuple();  // a, b
  ExprPtr sequence_or_tuple();    // without the conditional form, for `for x in ... if ...`
  int& nesting() { return nesting_; }

 private:
  template <class Node>
  ExprPtr make(Node node, int line);
  ExprPtr tuple_after(ExprPtr first, bool conditional);
  ExprPtr logic_or();
  ExprPtr logic_and();
  ExprPtr logic_not();
  ExprPtr comparison();
  ExprPtr binary(int level);
  ExprPtr unary(bool with_filters);
  ExprPtr primary();
  ExprPtr name();
  ExprPtr integer();
  ExprPtr floating();
  ExprPtr string();
  ExprPtr parenthesis();
  ExprPtr list();
  ExprPtr dict();
  ExprPtr postfix(ExprPtr base);
  ExprPtr subscript(ExprPtr object);
  ExprPtr filters(ExprPtr base);
  ExprPtr test(ExprPtr input);
  ExprPtr call(ExprPtr callee);
  Arguments arguments();

  TokenStream& tokens_;
  int nesting_ = 0;
};

}  // namespace pith::jinja
