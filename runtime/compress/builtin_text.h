// A calibration text that is part of the program, for use without files: prose, reference, manuals,
// code, numbers and tables, languages, and conversations, each a domain. Written for pith; the
// files of runtime/compress/builtin_text/ as they are.
#pragma once

#include <span>
#include <string_view>

namespace pith {

struct BuiltinText {
  const char* name;  // "code.txt"; .jsonl: conversations
  std::string_view text;
};

std::span<const BuiltinText> builtin_texts();

}  // namespace pith
