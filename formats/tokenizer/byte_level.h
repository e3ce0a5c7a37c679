// GPT-2's spelling of bytes as printable characters: bytes that print in Latin-1 stand for
// themselves, the others are U+0100, U+0101, ... in order. Every byte string becomes valid UTF-8
// without blanks.
#pragma once

#include <string>
#include <string_view>

namespace pith {

extern const char* const kGpt2Pattern;  // the split that goes with it

void append_byte_level(std::string& to, std::string_view bytes);
// The bytes that `text` spells, or `text` itself where it holds another character.
std::string from_byte_level(std::string_view text);

}  // namespace pith
