// The tokens of a template as its parser consumes them.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "formats/jinja/lexer.h"
#include "formats/jinja/meter.h"

namespace pith::jinja {

class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& peek(size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  bool at(Token::Kind kind) const { return peek().kind == kind; }
  bool at_symbol(std::string_view s) const { return at(Token::kSymbol) && peek().text == s; }
  bool at_name(std::string_view s) const { return at(Token::kName) && peek().text == s; }
  Token next() {
    Token token = peek();
    meter_.line = token.line;
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool skip_symbol(std::string_view s) { return at_symbol(s) && (next(), true); }
  bool skip_name(std::string_view s) { return at_name(s) && (next(), true); }
  void expect_symbol(std::string_view s) {
    if (!skip_symbol(s)) unexpected(s);
  }
  std::string expect(Token::Kind kind, std::string_view wanted) {
    if (!at(kind)) unexpected(wanted);
    return next().text;
  }
  [[noreturn]] void unexpected(std::string_view wanted) {
    meter_.line = peek().line;
    meter_.corrupt("'{}' where {} should stand", describe(peek()), wanted);
  }
  // Carries the line of the token last read.
  Meter& meter() { return meter_; }

 private:
  static std::string describe(const Token& token) {
    static constexpr const char* kNames[] = {"text", "{{", "}}", "{%", "%}"};
    if (token.kind == Token::kEnd) return "the end";
    if (static_cast<size_t>(token.kind) < std::size(kNames)) return kNames[token.kind];
    return token.text.substr(0, 40);
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  Meter meter_;
};

// One level of nesting for as long as it lives.
class Nesting {
 public:
  Nesting(int& depth, TokenStream& tokens) : depth_(depth) {
    if (++depth_ > kMaxNesting) {
      --depth_;
      tokens.meter().corrupt("nested deeper than {}", kMaxNesting);
    }
  }
  ~Nesting() { --depth_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;

 private:
  int& depth_;
};

}  // namespace pith::jinja
