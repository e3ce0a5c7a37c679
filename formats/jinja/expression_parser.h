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
  ExprPtr sequence_or_tuple();    // without the conditional form, for `for x in ... if ...`, `if`
  ExprPtr block_filters();        // what follows `filter`, or the names of `set`, as filters
  Target target(bool members);    // what `for` and `set` bind; with ns.name where `members`
  Target one_target(bool members);
  int& nesting() { return nesting_; }
  // How often these names, which macros are given where they use them, were read so far.
  struct SpecialNames {
    int caller = 0, varargs = 0, kwargs = 0;
  };
  const SpecialNames& special_names() const { return special_names_; }

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
  ExprPtr filter(ExprPtr input);
  ExprPtr test(ExprPtr input);
  ExprPtr index_part();
  ExprPtr call(ExprPtr callee);
  Arguments arguments();

  TokenStream& tokens_;
  int nesting_ = 0;
  SpecialNames special_names_;
};

}  // namespace pith::jinja
