#include "formats/jinja/parser.h"

#include <initializer_list>

#include "formats/jinja/expression_parser.h"

namespace pith::jinja {
namespace {

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize(source)), expressions_(tokens_) {}

  Body run() {
    Body result;
    body({}, result);
    return result;
  }

 private:
  // Statements up to one of the tags `ends`, whose name is consumed and returned.
  std::string body(std::initializer_list<std::string_view> ends, Body& out) {
    const Nesting nesting(expressions_.nesting(), tokens_);
    const int begin = tokens_.meter().line;
    while (true) {
      const Token token = tokens_.next();
      switch (token.kind) {
        case Token::kEnd:
          if (ends.size() == 0) return "";
          tokens_.meter().line = begin;
          tokens_.meter().corrupt("a block without its '{}'", *(ends.end() - 1));
        case Token::kData:
          out.push_back({Data{token.text}, token.line});
          break;
        case Token::kPrintBegin:
          out.push_back({Print{expressions_.expression_or_tuple()}, token.line});
          tokens_.expect(Token::kPrintEnd, "'}}'");
          break;
        default: {  // only a block can begin here
          const std::string tag = tokens_.expect(Token::kName, "the name of a tag");
          for (const std::string_view end : ends) {
            if (tag == end) return tag;
          }
          statement(tag, token.line, out);
        }
      }
    }
  }

  void end_of_tag() { tokens_.expect(Token::kBlockEnd, "'%}'"); }

  void statement(const std::string& tag, int line, Body& out) {
    if (tag == "if") return if_block(line, out);
    if (tag == "for") return for_block(line, out);
    if (tag == "set") return set(line, out);
    if (tag == "macro") return macro(line, out);
    if (tag == "call") return call_block(line, out);
    if (tag == "generation") return generation(line, out);
    if (tag == "break" || tag == "continue") {
      if (loops_ == 0) tokens_.meter().corrupt("'{}' outside of a loop", tag);
      end_of_tag();
      return tag == "break" ? out.push_back({Break{}, line}) : out.push_back({Continue{}, line});
    }
    static constexpr std::string_view kMisplaced[] = {
        "elif", "else", "endif", "endfor", "endset", "endmacro", "endcall", "endgeneration"};
    for (const std::string_view name : kMisplaced) {
      if (tag == name) tokens_.meter().corrupt("'{}' without a block that it belongs to", tag);
    }
    tokens_.meter().unsupported("the tag '{}'", tag.substr(0, 40));
  }

  void if_block(int line, Body& out) {
    If node;
    std::string tag = "elif";
    while (tag == "elif") {
      Branch branch{expressions_.expression_or_tuple(), {}};
      end_of_tag();
      tag = body({"elif", "else", "endif"}, branch.body);
      node.branches.push_back(std::move(branch));
    }
    if (tag == "else") {
      end_of_tag();
      body({"endif"}, node.otherwise);
    }
    end_of_tag();
    out.push_back({std::move(node), line});
  }

  std::vector<std::string> names() {
    const bool brackets = tokens_.skip_symbol("(");
    std::vector<std::string> result = {tokens_.expect(Token::kName, "a name")};
    while (tokens_.skip_symbol(",")) result.push_back(tokens_.expect(Token::kName, "a name"));
    if (brackets) tokens_.expect_symbol(")");
    return result;
  }

  void for_block(int line, Body& out) {
    For node;
    node.targets = names();
    if (!tokens_.skip_name("in")) tokens_.unexpected("in");
    node.sequence = expressions_.sequence_or_tuple();
    if (tokens_.skip_name("if")) node.filter = expressions_.expression();
    if (tokens_.at_name("recursive")) tokens_.meter().unsupported("a recursive loop");
    end_of_tag();
    ++loops_;
    ++scopes_;
    const std::string tag = body({"else", "endfor"}, node.body);
    --loops_;
    if (tag == "else") {
      end_of_tag();
      body({"endfor"}, node.otherwise);
    }
    --scopes_;
    end_of_tag();
    out.push_back({std::move(node), line});
  }

  // The body of a block whose text or definition stands apart from the loops around it.
  void apart(std::string_view end, Body& out) {
    end_of_tag();
    const int loops = loops_;
    loops_ = 0;
    ++scopes_;
    body({end}, out);
    --scopes_;
    loops_ = loops;
    end_of_tag();
  }

  void set(int line, Body& out) {
    Set node;
    node.names = names();
    if (node.names.size() == 1 && tokens_.skip_symbol(".")) {
      node.object = std::exchange(node.names[0], tokens_.expect(Token::kName, "a name"));
    }
    if (tokens_.skip_symbol("=")) {
      node.value = expressions_.expression_or_tuple();
      end_of_tag();
    } else {
      if (tokens_.at_symbol("|")) tokens_.meter().unsupported("a filter on a block of 'set'");
      if (node.names.size() != 1) tokens_.unexpected("=");
      apart("endset", node.body);
    }
    out.push_back({std::move(node), line});
  }

  void macro(int line, Body& out) {
    // Jinja's macros see the variables around them; here only those of the template itself.
    if (scopes_ > 0) tokens_.meter().unsupported("a macro inside of another block than 'if'");
    auto node = std::make_unique<Macro>();
    node->name = tokens_.expect(Token::kName, "a name");
    tokens_.expect_symbol("(");
    while (!tokens_.skip_symbol(")")) {
      if (!node->parameters.empty()) tokens_.expect_symbol(",");
      std::string name = tokens_.expect(Token::kName, "a name");
      ExprPtr missing = tokens_.skip_symbol("=") ? expressions_.expression() : nullptr;
      node->parameters.emplace_back(std::move(name), std::move(missing));
    }
    apart("endmacro", node->body);
    out.push_back({MacroDefinition{std::move(node)}, line});
  }

  void call_block(int line, Body& out) {
    CallBlock node;
    if (tokens_.at_symbol("(")) tokens_.meter().unsupported("'call' with parameters");
    node.call = expressions_.expression();
    if (!std::holds_alternative<Call>(node.call->node)) {
      tokens_.meter().corrupt("'call' of something that is no call");
    }
    apart("endcall", node.body);
    out.push_back({std::move(node), line});
  }

  void generation(int line, Body& out) {
    Scope node;
    apart("endgeneration", node.body);
    out.push_back({std::move(node), line});
  }

  TokenStream tokens_;
  ExpressionParser expressions_;
  int loops_ = 0;   // around this place, within the same macro or block
  int scopes_ = 0;  // blocks around this place with variables of their own
};

}  // namespace

Body parse(std::string_view source) { return Parser(source).run(); }

}  // namespace pith::jinja
