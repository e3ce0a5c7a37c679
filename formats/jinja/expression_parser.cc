#include "formats/jinja/expression_parser.h"

#include <algorithm>
#include <charconv>

namespace pith::jinja {
namespace {

int height(const ExprPtr& e) { return e == nullptr ? 0 : e->height; }
int height(const std::vector<ExprPtr>& list) {
  int h = 0;
  for (const auto& e : list) h = std::max(h, height(e));
  return h;
}
template <class Key>
int height(const std::vector<std::pair<Key, ExprPtr>>& list) {
  int h = 0;
  for (const auto& [key, e] : list) {
    h = std::max(h, height(e));
    if constexpr (std::is_same_v<Key, ExprPtr>) h = std::max(h, height(key));
  }
  return h;
}
int height(const Arguments& a) {
  return std::max(
      {height(a.positional), height(a.named), height(a.more_positional), height(a.more_named)});
}

int height_of(const Literal&) { return 0; }
int height_of(const Name&) { return 0; }
int height_of(const BlockText&) { return 0; }
int height_of(const ListLiteral& n) { return height(n.items); }
int height_of(const DictLiteral& n) { return height(n.entries); }
int height_of(const Unary& n) { return height(n.operand); }
int height_of(const Binary& n) { return std::max(height(n.left), height(n.right)); }
int height_of(const Compare& n) { return std::max(height(n.first), height(n.rest)); }
int height_of(const Conditional& n) {
  return std::max({height(n.condition), height(n.then), height(n.otherwise)});
}
int height_of(const Attribute& n) { return height(n.object); }
int height_of(const Index& n) { return std::max(height(n.object), height(n.key)); }
int height_of(const Slice& n) {
  return std::max({height(n.object), height(n.from), height(n.to), height(n.step)});
}
int height_of(const Call& n) { return std::max(height(n.callee), height(n.arguments)); }
int height_of(const Filter& n) { return std::max(height(n.input), height(n.arguments)); }
int height_of(const Test& n) { return std::max(height(n.input), height(n.arguments)); }

}  // namespace

template <class Node>
ExprPtr ExpressionParser::make(Node node, int line) {
  const int h = 1 + height_of(node);
  if (h > kMaxTree)
    tokens_.meter().corrupt("an expression of more than {} parts in a row", kMaxTree);
  return std::make_unique<Expr>(Expr{std::move(node), line, h});
}

ExprPtr ExpressionParser::expression() {
  const Nesting nesting(nesting_, tokens_);
  const int line = tokens_.peek().line;
  ExprPtr result = logic_or();
  while (tokens_.skip_name("if")) {
    ExprPtr condition = logic_or();
    ExprPtr otherwise = tokens_.skip_name("else") ? expression() : nullptr;
    result = make(Conditional{std::move(condition), std::move(result), std::move(otherwise)}, line);
  }
  return result;
}

ExprPtr ExpressionParser::expression_or_tuple() { return tuple_after(expression(), true); }
ExprPtr ExpressionParser::sequence_or_tuple() { return tuple_after(logic_or(), false); }

ExprPtr ExpressionParser::tuple_after(ExprPtr first, bool conditional) {
  if (!tokens_.at_symbol(",")) return first;
  ListLiteral tuple;
  tuple.tuple = true;
  const int line = first->line;
  tuple.items.push_back(std::move(first));
  while (tokens_.skip_symbol(",")) {
    if (tokens_.at_symbol(")") || tokens_.at(Token::kPrintEnd) || tokens_.at(Token::kBlockEnd))
      break;
    tuple.items.push_back(conditional ? expression() : logic_or());
  }
  return make(std::move(tuple), line);
}

ExprPtr ExpressionParser::logic_or() {
  ExprPtr left = logic_and();
  while (tokens_.at_name("or")) {
    const int line = tokens_.next().line;
    ExprPtr right = logic_and();
    left = make(Binary{"or", std::move(left), std::move(right)}, line);
  }
  return left;
}

ExprPtr ExpressionParser::logic_and() {
  ExprPtr left = logic_not();
  while (tokens_.at_name("and")) {
    const int line = tokens_.next().line;
    ExprPtr right = logic_not();
    left = make(Binary{"and", std::move(left), std::move(right)}, line);
  }
  return left;
}

ExprPtr ExpressionParser::logic_not() {
  if (!tokens_.at_name("not")) return comparison();
  const Nesting nesting(nesting_, tokens_);
  const int line = tokens_.next().line;
  return make(Unary{"not", logic_not()}, line);
}

ExprPtr ExpressionParser::comparison() {
  Compare compare;
  compare.first = binary(0);
  const int line = compare.first->line;
  static constexpr std::string_view kOperators[] = {"==", "!=", "<", "<=", ">", ">="};
  while (true) {
    const Token& token = tokens_.peek();
    std::string op;
    if (token.kind == Token::kSymbol && std::find(std::begin(kOperators), std::end(kOperators),
                                                  token.text) != std::end(kOperators)) {
      op = tokens_.next().text;
    } else if (tokens_.skip_name("in")) {
      op = "in";
    } else if (tokens_.at_name("not") && tokens_.peek(1).kind == Token::kName &&
               tokens_.peek(1).text == "in") {
      tokens_.next();
      tokens_.next();
      op = "not in";
    } else {
      break;
    }
    compare.rest.emplace_back(op, binary(0));
  }
  if (compare.rest.empty()) return std::move(compare.first);
  return make(std::move(compare), line);
}

// Left-associative operators, the loosest first; Jinja's ** is left-associative too.
ExprPtr ExpressionParser::binary(int level) {
  static const std::vector<std::vector<std::string_view>> kLevels = {
      {"+", "-"}, {"~"}, {"*", "/", "//", "%"}, {"**"}};
  if (level == static_cast<int>(kLevels.size())) return unary(true);
  const auto& operators = kLevels[static_cast<size_t>(level)];
  ExprPtr left = binary(level + 1);
  while (tokens_.at(Token::kSymbol) &&
         std::find(operators.begin(), operators.end(), tokens_.peek().text) != operators.end()) {
    const Token op = tokens_.next();
    ExprPtr right = binary(level + 1);
    left = make(Binary{op.text, std::move(left), std::move(right)}, op.line);
  }
  return left;
}

ExprPtr ExpressionParser::unary(bool with_filters) {
  ExprPtr result;
  if (tokens_.at_symbol("-") || tokens_.at_symbol("+")) {
    const Nesting nesting(nesting_, tokens_);
    const Token op = tokens_.next();
    result = make(Unary{op.text, unary(false)}, op.line);
  } else {
    result = primary();
  }
  result = postfix(std::move(result));
  return with_filters ? filters(std::move(result)) : std::move(result);
}

ExprPtr ExpressionParser::primary() {
  switch (tokens_.peek().kind) {
    case Token::kName:
      return name();
    case Token::kInteger:
      return integer();
    case Token::kFloat:
      return floating();
    case Token::kString:
      return string();
    default:
      break;
  }
  if (tokens_.at_symbol("(")) return parenthesis();
  if (tokens_.at_symbol("[")) return list();
  if (tokens_.at_symbol("{")) return dict();
  tokens_.unexpected("a value");
}

ExprPtr ExpressionParser::name() {
  const Token token = tokens_.next();
  const std::string& s = token.text;
  if (s == "true" || s == "True") return make(Literal{true}, token.line);
  if (s == "false" || s == "False") return make(Literal{false}, token.line);
  if (s == "none" || s == "None") return make(Literal{None{}}, token.line);
  if (s == "caller") ++special_names_.caller;
  if (s == "varargs") ++special_names_.varargs;
  if (s == "kwargs") ++special_names_.kwargs;
  return make(Name{s}, token.line);
}

ExprPtr ExpressionParser::integer() {
  const Token token = tokens_.next();
  int64_t value = 0;
  const char* end = token.text.data() + token.text.size();
  const auto parsed = std::from_chars(token.text.data(), end, value);
  if (parsed.ec != std::errc() || parsed.ptr != end) {
    tokens_.meter().unsupported("an integer of more than 64 bits");
  }
  return make(Literal{value}, token.line);
}

ExprPtr ExpressionParser::floating() {
  const Token token = tokens_.next();
  double value = 0;
  const char* end = token.text.data() + token.text.size();
  const auto parsed = std::from_chars(token.text.data(), end, value);
  if (parsed.ec != std::errc() || parsed.ptr != end) {
    tokens_.meter().unsupported("the number {}", token.text.substr(0, 40));
  }
  return make(Literal{value}, token.line);
}

ExprPtr ExpressionParser::string() {
  const int line = tokens_.peek().line;
  std::string value;
  while (tokens_.at(Token::kString)) value += tokens_.next().text;
  return make(Literal{std::make_shared<const Text>(value, Origin::kTemplate)}, line);
}

ExprPtr ExpressionParser::parenthesis() {
  const int line = tokens_.next().line;
  if (tokens_.skip_symbol(")")) return make(ListLiteral{{}, true}, line);
  ExprPtr inner = expression_or_tuple();
  tokens_.expect_symbol(")");
  return inner;
}

ExprPtr ExpressionParser::list() {
  ListLiteral list;
  const int line = tokens_.next().line;
  while (!tokens_.skip_symbol("]")) {
    if (!list.items.empty()) tokens_.expect_symbol(",");
    if (tokens_.skip_symbol("]")) break;
    list.items.push_back(expression());
  }
  return make(std::move(list), line);
}

ExprPtr ExpressionParser::dict() {
  DictLiteral dict;
  const int line = tokens_.next().line;
  while (!tokens_.skip_symbol("}")) {
    if (!dict.entries.empty()) tokens_.expect_symbol(",");
    if (tokens_.skip_symbol("}")) break;
    ExprPtr key = expression();
    tokens_.expect_symbol(":");
    dict.entries.emplace_back(std::move(key), expression());
  }
  return make(std::move(dict), line);
}

ExprPtr ExpressionParser::postfix(ExprPtr base) {
  while (true) {
    const int line = tokens_.peek().line;
    if (tokens_.skip_symbol(".")) {
      if (tokens_.at(Token::kInteger)) {
        ExprPtr key = integer();
        base = make(Index{std::move(base), std::move(key)}, line);
      } else {
        base = make(Attribute{std::move(base), tokens_.expect(Token::kName, "a name")}, line);
      }
    } else if (tokens_.skip_symbol("[")) {
      base = subscript(std::move(base));
    } else if (tokens_.at_symbol("(")) {
      base = call(std::move(base));
    } else {
      return base;
    }
  }
}

// One of the parts between commas in brackets: an index, or a slice of the object that the caller
// puts in.
ExprPtr ExpressionParser::index_part() {
  const int line = tokens_.peek().line;
  ExprPtr parts[3];
  bool slice = false;
  const auto ends = [&] {
    return tokens_.at_symbol(":") || tokens_.at_symbol("]") || tokens_.at_symbol(",");
  };
  for (size_t i = 0; i < 3; ++i) {
    if (!ends()) parts[i] = expression();
    if (i == 2 || !tokens_.skip_symbol(":")) break;
    slice = true;
  }
  if (!slice && parts[0] == nullptr) tokens_.unexpected("an index");
  if (!slice) return std::move(parts[0]);
  return make(Slice{nullptr, std::move(parts[0]), std::move(parts[1]), std::move(parts[2])}, line);
}

ExprPtr ExpressionParser::subscript(ExprPtr object) {
  const Nesting nesting(nesting_, tokens_);
  const int line = tokens_.peek().line;
  ExprPtr part = index_part();
  if (tokens_.at_symbol(",")) {
    ListLiteral tuple;
    tuple.tuple = true;
    tuple.items.push_back(std::move(part));
    while (tokens_.skip_symbol(",")) {
      if (tokens_.at_symbol("]")) break;
      tuple.items.push_back(index_part());
    }
    for (const ExprPtr& item : tuple.items) {
      if (std::holds_alternative<Slice>(item->node)) {
        tokens_.meter().corrupt("a slice among more than one index in brackets");
      }
    }
    part = make(std::move(tuple), line);
  }
  tokens_.expect_symbol("]");
  if (auto* slice = std::get_if<Slice>(&part->node)) {
    // A slice that stands alone has its object from here; one in brackets of its own has one.
    if (slice->object == nullptr) {
      return make(Slice{std::move(object), std::move(slice->from), std::move(slice->to),
                        std::move(slice->step)},
                  line);
    }
  }
  return make(Index{std::move(object), std::move(part)}, line);
}

ExprPtr ExpressionParser::filter(ExprPtr input) {
  const int line = tokens_.peek().line;
  std::string name = tokens_.expect(Token::kName, "the name of a filter");
  while (tokens_.skip_symbol(".")) name += "." + tokens_.expect(Token::kName, "a name");
  Arguments args = tokens_.at_symbol("(") ? arguments() : Arguments{};
  return make(Filter{std::move(input), std::move(name), std::move(args)}, line);
}

ExprPtr ExpressionParser::filters(ExprPtr base) {
  while (true) {
    if (tokens_.skip_symbol("|")) {
      base = filter(std::move(base));
    } else if (tokens_.at_name("is")) {
      base = test(std::move(base));
    } else if (tokens_.at_symbol("(")) {
      base = call(std::move(base));
    } else {
      return base;
    }
  }
}

ExprPtr ExpressionParser::block_filters() {
  ExprPtr result = filter(make(BlockText{}, tokens_.peek().line));
  while (tokens_.skip_symbol("|")) result = filter(std::move(result));
  return result;
}

Target ExpressionParser::one_target(bool members) {
  const Nesting nesting(nesting_, tokens_);
  if (tokens_.skip_symbol("(")) {
    if (tokens_.skip_symbol(")")) return {"", "", {}, true};
    Target inner = target(members);
    tokens_.expect_symbol(")");
    return inner;
  }
  Target result;
  result.name = tokens_.expect(Token::kName, "a name");
  static constexpr std::string_view kReserved[] = {"true", "false", "none",
                                                   "True", "False", "None"};
  if (std::find(std::begin(kReserved), std::end(kReserved), result.name) != std::end(kReserved)) {
    tokens_.meter().corrupt("'{}' as a name to set", result.name);
  }
  if (members && tokens_.skip_symbol(".")) {
    result.object = std::exchange(result.name, tokens_.expect(Token::kName, "a name"));
  }
  return result;
}

Target ExpressionParser::target(bool members) {
  Target first = one_target(members);
  if (!tokens_.at_symbol(",")) return first;
  Target tuple;
  tuple.tuple = true;
  tuple.parts.push_back(std::move(first));
  while (tokens_.skip_symbol(",")) {
    if (!tokens_.at(Token::kName) && !tokens_.at_symbol("(")) break;
    if (tokens_.at_name("in")) break;
    tuple.parts.push_back(one_target(members));
  }
  return tuple;
}

// A test's argument may stand without brackets: `x is divisibleby 3`.
ExprPtr ExpressionParser::test(ExprPtr input) {
  Test test;
  const int line = tokens_.next().line;
  test.negated = tokens_.skip_name("not");
  test.name = tokens_.expect(Token::kName, "the name of a test");
  test.input = std::move(input);
  const Token& token = tokens_.peek();
  const bool bare = token.kind == Token::kString || token.kind == Token::kInteger ||
                    token.kind == Token::kFloat || tokens_.at_symbol("[") || tokens_.at_symbol("{");
  static constexpr std::string_view kNotArguments[] = {"else", "or", "and", "if",
                                                       "is",   "in", "not"};
  const bool name = token.kind == Token::kName &&
                    std::find(std::begin(kNotArguments), std::end(kNotArguments), token.text) ==
                        std::end(kNotArguments);
  if (tokens_.at_symbol("(")) {
    test.arguments = arguments();
  } else if (bare || name) {
    const Nesting nesting(nesting_, tokens_);
    test.arguments.positional.push_back(postfix(primary()));
  }
  return make(std::move(test), line);
}

ExprPtr ExpressionParser::call(ExprPtr callee) {
  const int line = tokens_.peek().line;
  Arguments args = arguments();
  return make(Call{std::move(callee), std::move(args)}, line);
}

Arguments ExpressionParser::arguments() {
  Arguments result;
  tokens_.expect_symbol("(");
  bool first = true;
  while (!tokens_.skip_symbol(")")) {
    if (!first) tokens_.expect_symbol(",");
    first = false;
    if (tokens_.skip_symbol(")")) break;
    if (tokens_.at_symbol("*") || tokens_.at_symbol("**")) {
      const bool named = tokens_.next().text == "**";
      ExprPtr& more = named ? result.more_named : result.more_positional;
      if (more != nullptr || result.more_named != nullptr) tokens_.unexpected("')'");
      more = expression();
      continue;
    }
    const Token& after = tokens_.peek(1);
    if (tokens_.at(Token::kName) && after.kind == Token::kSymbol && after.text == "=") {
      std::string name = tokens_.next().text;
      tokens_.next();
      result.named.emplace_back(std::move(name), expression());
    } else {
      if (!result.named.empty() || result.more_positional != nullptr ||
          result.more_named != nullptr) {
        tokens_.unexpected("a named argument");
      }
      result.positional.push_back(expression());
    }
  }
  return result;
}

}  // namespace pith::jinja
