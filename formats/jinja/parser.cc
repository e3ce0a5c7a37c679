#include "formats/jinja/parser.h"

#include <initializer_list>

#include "formats/jinja/expression_parser.h"

namespace pith::jinja {
namespace {

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize(source)), expressions_(tokens_) {}

  Program run() {
    body({}, program_.body);
    return std::move(program_);
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
    if (tag == "with") return with(line, out);
    if (tag == "filter") return filter_block(line, out);
    if (tag == "autoescape") return autoescape(line, out);
    if (tag == "block") return block(line, out);
    if (tag == "print") {
      out.push_back({Print{expressions_.expression_or_tuple()}, line});
      return end_of_tag();
    }
    if (tag == "include" || tag == "import" || tag == "from" || tag == "extends") {
      while (!tokens_.at(Token::kBlockEnd) && !tokens_.at(Token::kEnd)) tokens_.next();
      end_of_tag();
      return out.push_back({Refused{tag}, line});
    }
    if (tag == "break" || tag == "continue") {
      if (loops_ == 0) tokens_.meter().corrupt("'{}' outside of a loop", tag);
      end_of_tag();
      return tag == "break" ? out.push_back({Break{}, line}) : out.push_back({Continue{}, line});
    }
    static constexpr std::string_view kMisplaced[] = {
        "elif",    "else",          "endif",   "endfor",    "endset",        "endmacro",
        "endcall", "endgeneration", "endwith", "endfilter", "endautoescape", "endblock"};
    for (const std::string_view name : kMisplaced) {
      if (tag == name) tokens_.meter().corrupt("'{}' without a block that it belongs to", tag);
    }
    tokens_.meter().unsupported("the tag '{}'", tag.substr(0, 40));
  }

  void if_block(int line, Body& out) {
    If node;
    std::string tag = "elif";
    while (tag == "elif") {
      Branch branch{expressions_.sequence_or_tuple(), {}};
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

  void for_block(int line, Body& out) {
    For node;
    node.target = expressions_.target(false);
    if (!tokens_.skip_name("in")) tokens_.unexpected("in");
    node.sequence = expressions_.sequence_or_tuple();
    if (tokens_.skip_name("if")) node.filter = expressions_.expression();
    node.recursive = tokens_.skip_name("recursive");
    end_of_tag();
    ++loops_;
    const std::string tag = body({"else", "endfor"}, node.body);
    --loops_;
    if (tag == "else") {
      end_of_tag();
      body({"endfor"}, node.otherwise);
    }
    end_of_tag();
    out.push_back({std::move(node), line});
  }

  // The body of a block whose text or definition stands apart from the loops around it.
  void apart(std::string_view end, Body& out) {
    end_of_tag();
    const int loops = std::exchange(loops_, 0);
    body({end}, out);
    loops_ = loops;
    end_name_of_tag();
  }
  // Blocks may repeat their name in their last tag.
  void end_name_of_tag() {
    if (tokens_.at(Token::kName)) tokens_.next();
    end_of_tag();
  }
  // The body of a block within the loops around it.
  void within(std::string_view end, Body& out) {
    end_of_tag();
    body({end}, out);
    end_of_tag();
  }

  void set(int line, Body& out) {
    Set node;
    node.target = expressions_.target(true);
    if (tokens_.skip_symbol("=")) {
      node.value = expressions_.expression_or_tuple();
      end_of_tag();
    } else {
      if (node.target.tuple) tokens_.unexpected("=");
      node.block = true;
      if (tokens_.skip_symbol("|")) node.value = expressions_.block_filters();
      apart("endset", node.body);
    }
    out.push_back({std::move(node), line});
  }

  std::vector<std::pair<std::string, ExprPtr>> parameters() {
    std::vector<std::pair<std::string, ExprPtr>> result;
    tokens_.expect_symbol("(");
    while (!tokens_.skip_symbol(")")) {
      if (!result.empty()) tokens_.expect_symbol(",");
      std::string name = tokens_.expect(Token::kName, "a name");
      ExprPtr missing = tokens_.skip_symbol("=") ? expressions_.expression() : nullptr;
      if (missing == nullptr && !result.empty() && result.back().second != nullptr) {
        tokens_.meter().corrupt("the parameter '{}' without a default after one with", name);
      }
      result.emplace_back(std::move(name), std::move(missing));
    }
    return result;
  }

  // The body and the special names that it uses.
  void macro_body(Macro& macro, std::string_view end) {
    const ExpressionParser::SpecialNames before = expressions_.special_names();
    apart(end, macro.body);
    const ExpressionParser::SpecialNames& after = expressions_.special_names();
    macro.uses_caller = after.caller > before.caller;
    macro.uses_varargs = after.varargs > before.varargs;
    macro.uses_kwargs = after.kwargs > before.kwargs;
  }

  void macro(int line, Body& out) {
    auto node = std::make_unique<Macro>();
    node->name = tokens_.expect(Token::kName, "a name");
    node->parameters = parameters();
    macro_body(*node, "endmacro");
    for (const auto& [name, otherwise] : node->parameters) {
      if (name == "caller" && otherwise == nullptr && node->uses_caller)
        tokens_.meter().corrupt("the parameter 'caller' of a macro without a default");
    }
    out.push_back({MacroDefinition{std::move(node)}, line});
  }

  void call_block(int line, Body& out) {
    CallBlock node;
    node.body = std::make_unique<Macro>();
    if (tokens_.at_symbol("(")) node.body->parameters = parameters();
    node.call = expressions_.expression();
    if (!std::holds_alternative<Call>(node.call->node)) {
      tokens_.meter().corrupt("'call' of something that is no call");
    }
    macro_body(*node.body, "endcall");
    out.push_back({std::move(node), line});
  }

  void generation(int line, Body& out) {
    Scope node;
    apart("endgeneration", node.body);
    out.push_back({std::move(node), line});
  }

  void with(int line, Body& out) {
    With node;
    while (!tokens_.at(Token::kBlockEnd)) {
      if (!node.variables.empty()) tokens_.expect_symbol(",");
      Target target = expressions_.one_target(false);
      tokens_.expect_symbol("=");
      node.variables.emplace_back(std::move(target), expressions_.expression());
    }
    within("endwith", node.body);
    out.push_back({std::move(node), line});
  }

  void filter_block(int line, Body& out) {
    FilterBlock node;
    node.value = expressions_.block_filters();
    apart("endfilter", node.body);
    out.push_back({std::move(node), line});
  }

  void autoescape(int line, Body& out) {
    Autoescape node;
    node.on = expressions_.expression();
    within("endautoescape", node.body);
    out.push_back({std::move(node), line});
  }

  void block(int line, Body& out) {
    auto node = std::make_unique<Block>();
    node->name = tokens_.expect(Token::kName, "a name");
    node->scoped = tokens_.skip_name("scoped");
    if (tokens_.at_name("required")) tokens_.meter().unsupported("a block that is 'required'");
    for (const Block* other : program_.blocks) {
      if (other->name == node->name) tokens_.meter().corrupt("the block '{}' twice", node->name);
    }
    program_.blocks.push_back(node.get());
    apart("endblock", node->body);
    out.push_back({BlockDefinition{std::move(node)}, line});
  }

  Program program_;
  TokenStream tokens_;
  ExpressionParser expressions_;
  int loops_ = 0;  // around this place, within the same macro or block
};

}  // namespace

Program parse(std::string_view source) { return Parser(source).run(); }

}  // namespace pith::jinja
