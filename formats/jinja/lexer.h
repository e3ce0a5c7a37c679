// A template cut into tokens, with the white-space rules of Jinja under trim_blocks and
// lstrip_blocks, as transformers sets them: {%- and -%} eat all white space beside them; a block or
// comment alone on its line takes its indentation and its line end with it ({%+ and +%} keep them);
// one newline at the end of the source goes; every line end is "\n".
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pith::jinja {

struct Token {
  enum Kind {
    kData,
    kPrintBegin,
    kPrintEnd,
    kBlockBegin,
    kBlockEnd,
    kName,
    kString,
    kInteger,
    kFloat,
    kSymbol,
    kEnd
  };
  Kind kind = kEnd;
  std::string text;  // of a string: its value, without escapes
  int line = 1;
};

std::vector<Token> tokenize(std::string_view source);  // kCorrupt; ends with kEnd

}  // namespace pith::jinja
